"""The history of the schema, one file for each step; and a check of a database's version.

In: the tables of a database. Out: the tables of this version, or one sentence on what to do.
Promise: a step never loses mail, and ``schema.upgrade`` may be repeated.

Files: ``env`` is what Alembic runs, ``versions`` has the steps (their numbers
skip some). The check does not import Alembic.
"""

import re

from sqlalchemy import inspect, text

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.db import Database

HEAD = "0034"
"""The last step.

Alembic knows it too, but importing Alembic takes as long as the rest of a worker.
"""

_STEP = re.compile(r"[0-9]{4}")


def found(db: Database) -> str | None:
    """Return the step that the tables are at; None if there are none.

    Raises :class:`DatabaseUnavailable`.
    """
    with db.read() as session:
        if inspect(session.connection()).has_table("alembic_version"):
            last: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
            return last
    db.check_search_path()
    return None


def check(db: Database) -> None:
    """Raise :class:`ConfigurationError` unless the tables are at the step that this version needs.

    Raises :class:`DatabaseUnavailable`.
    """
    if (last := found(db)) != HEAD:
        raise wrong(last)


def wrong(last: str | None) -> ConfigurationError:
    """Return the error for tables that are at another step than this version needs."""
    if last is not None and not _STEP.fullmatch(last):
        return ConfigurationError(
            f"the database's tables are another program's: alembic_version is {last[:40]!r}, and ours would be {HEAD}; "
            "name a database of Mail BB Gun, or a new one, in DATABASE_URL"
        )
    if last is not None and last > HEAD:
        return ConfigurationError(
            f"the database is of a newer version of Mail BB Gun: its schema is {last}, this version needs {HEAD}; "
            "run that newer version, or restore a backup (docs/howto/upgrade.rst)"
        )
    return ConfigurationError(
        f"the database's schema is {last or 'missing'}, this version needs {HEAD}: run python initdb.py"
    )
