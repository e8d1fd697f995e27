"""Makes SQLAlchemy's engine for each of the two databases, with the settings of its connections."""

import contextlib
import os
import select
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from mailbbgun.database.texts import HAS_FOLDED, has_folded

#: How long a statement of SQLite waits for another process that writes.
SQLITE_BUSY_SECONDS = 15
#: How long to wait for a connection to PostgreSQL, or for a free one of the pool.
CONNECT_SECONDS = 10
#: The execution option of a transaction that only reads.
READING = "mailbbgun_read"

_UUID_OID = 2950  # PostgreSQL's number of the type
_USED = "mailbbgun_used"  # in a pooled connection's ``info``: it was handed out before


def postgresql(url: URL, pool_size: int, connect_seconds: int) -> Engine:
    """Return an engine for PostgreSQL, with at most ``pool_size`` connections."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,  # errors are logged, and parameters may be the bodies of messages
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        # If the server's machine vanishes, TCP would wait for a quarter of an hour. No thread may
        # wait so long.
        connect_args={
            "connect_timeout": connect_seconds,
            "application_name": "mailbbgun",
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # ms
        },
    )

    uuids = _uuids_of(engine.dialect.loaded_dbapi)

    @event.listens_for(engine, "connect")
    def _read_uuids(connection: Any, _record: object) -> None:  # after SQLAlchemy has registered its own
        engine.dialect.loaded_dbapi.extensions.register_type(uuids, connection)

    @event.listens_for(engine, "checkout")
    def _check_idle(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        # Nothing was sent on the connection yet. So if it broke while it was idle, the pool can
        # replace it now, unnoticed. Later it could not.
        if record.info.get(_USED) and _has_ended(connection):
            raise DisconnectionError("the server ended this connection while nobody used it")
        # Do not check a fresh connection: it may have something to read, because TLS 1.3 sends
        # tickets at any time.
        record.info[_USED] = True

    return engine


def _uuids_of(driver: Any) -> Any:
    """Return the driver's converter for UUIDs, which makes those of tenants and keys only once.

    To make a UUID of a text takes longer than to read ten other values of a row.
    """
    made = lru_cache(maxsize=4096)(UUID)
    return driver.extensions.new_type((_UUID_OID,), "UUID", lambda text, _cursor: None if text is None else made(text))


def _has_ended(connection: Any) -> bool:
    """Return whether the server has ended an idle connection.

    Nothing was asked on it. So if there is something to read, it is the server's farewell or the
    end of the stream.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def sqlite(url: URL, pool_size: int, synchronous: str) -> Engine:
    """Return an engine for SQLite, with at most ``pool_size`` connections."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _keep_private(_dialect: object, _record: object, arguments: Any, _options: object) -> None:
        # SQLite would make a file that every user may read. Those beside it get the same mode.
        if arguments[0] == ":memory:":
            return
        with contextlib.suppress(OSError):  # it exists; or it cannot be made, which SQLite explains
            os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the "begin" event below opens transactions, not the driver
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function(HAS_FOLDED, 2, has_folded, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that reads first and writes later may fail with "database is
        # locked" at once, whatever the busy timeout is.
        reading = connection.get_execution_options().get(READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
