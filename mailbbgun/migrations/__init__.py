"""The history of the schema, one file per step, run by Alembic; and a check of a database's
version.

The check does not import Alembic.
"""

from sqlalchemy import inspect, text

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.db import Database

HEAD = "0011"
"""The last step.

Alembic knows it too, but importing Alembic takes as long as the rest of a worker.
"""


def found(db: Database) -> str | None:
    """Return the step that the tables are at; None if there are none.

    Raises :class:`DatabaseUnavailable`.
    """
    with db.read() as session:
        there = inspect(session.connection()).has_table("alembic_version")
        return session.scalar(text("SELECT version_num FROM alembic_version")) if there else None


def check(db: Database) -> None:
    """Raise :class:`ConfigurationError` unless the tables are at the step that this version needs.

    Raises :class:`DatabaseUnavailable`.
    """
    if (last := found(db)) != HEAD:
        raise wrong(last)


def wrong(last: str | None) -> ConfigurationError:
    """Return the error for tables that are at another step than this version needs."""
    return ConfigurationError(
        f"the database's schema is {last or 'missing'}, this version needs {HEAD}: run python initdb.py"
    )
