"""Our tables for a new database: the steps of the schema make them once, and tests get copies.

The steps cost a fifth of a second of CPU each time, and thousands of tests want tables of their
own. Who needs a copy calls the real thing all the same, which then finds nothing to do.
"""

import atexit
import shutil
import tempfile
import uuid
from functools import cache
from pathlib import Path

import psycopg2
from sqlalchemy.engine import URL, make_url

from mailbbgun import schema
from mailbbgun.database.db import Database
from tests.servers import PostgreSQL
from tests.servers.postgresql import connected

#: Whether a database is ours to replace: we may do all on its server, to which nothing else leads, and nothing was done
#: in it or to it.
_UNTOUCHED = """
SELECT rolsuper AND inet_server_port() = %(port)s
  AND NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384)
  AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
"""


def put_into(db: Database) -> None:
    """Give a database our tables if it is new: of SQLite, one without a file. Others stay as they are."""
    if db.dialect == "postgresql":
        _replace(db.url)
        return
    file = Path(db.url.database or "")
    if not file.exists():
        shutil.copy(_sqlite(), file)


def database_of(server: PostgreSQL) -> str:
    """Create a database with our tables and return its name."""
    return server.create_database(like=_postgresql(make_url(server.url())))


def _replace(url: URL) -> None:
    """Put a copy in the place of a database that is empty and that nobody is connected to."""
    with connected(url) as cursor:
        cursor.execute(_UNTOUCHED, {"port": url.port})
        if cursor.fetchone() != (True,):
            return
    tables = _postgresql(_server(url))
    copy = f"copy_{uuid.uuid4().hex[:12]}"
    with connected(_server(url)) as cursor:
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{tables}"')  # first, so that its failure takes nothing away
        try:
            cursor.execute(f'DROP DATABASE "{url.database}"')
        except psycopg2.errors.ObjectInUse:
            cursor.execute(f'DROP DATABASE "{copy}"')
        else:
            cursor.execute(f'ALTER DATABASE "{copy}" RENAME TO "{url.database}"')


def _server(url: URL) -> URL:
    return url.set(database="postgres")


@cache
def _sqlite() -> Path:
    folder = tempfile.mkdtemp(prefix="mailbbgun-tables-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder) / "tables.db"
    _upgrade(f"sqlite:///{file}")  # closed, it is one file
    return file


@cache
def _postgresql(server: URL) -> str:
    name = f"tables_{uuid.uuid4().hex[:12]}"
    with connected(server) as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    _upgrade(server.set(database=name).render_as_string(hide_password=False))
    return name


def _upgrade(url: str) -> None:
    db = Database(url)
    schema.upgrade(db)
    db.close()
