"""The schema's history, one file a step, run by Alembic; and the check that a database has come to its end, which does without it."""

from sqlalchemy import inspect, text

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.db import Database

HEAD = "0011"
"""The last step. Alembic would tell, but importing it takes as long as all the rest of a worker."""


def found(db: Database) -> str | None:
    """Return the last step that the tables have come to; None if there are none. Raises :class:`DatabaseUnavailable`."""
    with db.read() as session:
        there = inspect(session.connection()).has_table("alembic_version")
        return session.scalar(text("SELECT version_num FROM alembic_version")) if there else None


def check(db: Database) -> None:
    """Raise :class:`ConfigurationError` unless the tables are those this version needs. Raises :class:`DatabaseUnavailable`."""
    if (last := found(db)) != HEAD:
        raise wrong(last)


def wrong(last: str | None) -> ConfigurationError:
    """Return the error of tables that have come to another step than this version needs."""
    return ConfigurationError(
        f"the database's schema is {last or 'missing'}, this version needs {HEAD}: run python initdb.py"
    )
