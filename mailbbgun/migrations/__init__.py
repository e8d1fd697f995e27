"""The schema's history, one file a step, run by Alembic; and the check that a database has come to its end, which does without it."""

from sqlalchemy import inspect, text

from mailbbgun.base.db import Database
from mailbbgun.base.errors import ConfigurationError

HEAD = "0011"
"""The last step. Alembic would tell, but importing it takes as long as all the rest of a worker."""


def check(db: Database) -> None:
    """Raise :class:`ConfigurationError` unless the tables are those this version needs. Raises :class:`DatabaseUnavailable`."""
    with db.read() as session:
        there = inspect(session.connection()).has_table("alembic_version")
        found = session.scalar(text("SELECT version_num FROM alembic_version")) if there else None
    if found != HEAD:
        raise ConfigurationError(f"the database's schema is {found or 'missing'}, this version needs {HEAD}: run python initdb.py")
