"""Our tables for a new database: the steps of the schema make them once, and tests get copies.

The steps cost a fifth of a second of CPU each time, and thousands of tests want tables of their
own. Who needs a copy calls the real thing all the same, which then finds nothing to do.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mailbbgun import schema
from mailbbgun.database.db import Database
from tests.servers import PostgreSQL


def put_into(db: Database) -> None:
    """Give a SQLite database that does not exist yet our tables. Others stay as they are."""
    if db.dialect != "sqlite":
        return
    file = Path(db.url.database or "")
    if not file.exists():
        shutil.copy(_sqlite(), file)


def database_of(server: PostgreSQL) -> str:
    """Create a database with our tables and return its name."""
    return server.create_database(like=_postgresql(server))


@cache
def _sqlite() -> Path:
    folder = tempfile.mkdtemp(prefix="mailbbgun-tables-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder) / "tables.db"
    _upgrade(f"sqlite:///{file}")  # closed, it is one file
    return file


@cache
def _postgresql(server: PostgreSQL) -> str:
    name = server.create_database()
    _upgrade(server.url(name))
    return name


def _upgrade(url: str) -> None:
    db = Database(url)
    schema.upgrade(db)
    db.close()
