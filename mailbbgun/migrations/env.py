"""Runs migrations inside the transaction that ``schema.upgrade`` has opened."""

from alembic import context
from sqlalchemy import text

from mailbbgun.database.db import Base

LOCK = 0x6D626267  # key of a PostgreSQL advisory lock, so that two upgrades at once take turns

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
context.configure(connection=connection, target_metadata=Base.metadata)
context.run_migrations()
