"""Makes SQLAlchemy's engine for each of the two databases, with the settings of its connections; and lets
writers of SQLite take turns.
"""

import contextlib
import fcntl
import os
import select
import threading
import time
from collections import deque
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
#: Seconds that a writer of SQLite waits for its turn among processes, at most. Then SQLite's own lock decides.
TURN_SECONDS = 2.0
#: Seconds in which a process has no turns after one that did not come: who holds it may stand still for long.
WITHOUT_TURNS_SECONDS = 5.0
#: Seconds between two looks whether another process has ended its turn.
_LOOK_SECONDS = 0.0005
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


class NoTurns(contextlib.nullcontext[None]):
    """What :class:`WritersTurns` is where many may write at once."""

    def let_thread_go_first(self) -> None:
        """Do nothing."""


class WritersTurns:
    """Lets those who write to a file of SQLite, which has one writer at a time, do so in the order in which they came.

    A process that finds another one writing would, by SQLite's own rules, look again after longer and
    longer pauses, up to a tenth of a second: beside a worker that hardly rests, a request would wait for
    seconds. Threads of this process wait in line, and the first of each process takes part in the turns
    of processes. Those are kept by locks on two files beside the database: who holds the first is the next
    to get the second, which the writing process holds. The kernel frees the locks of a process that dies.
    They decide only who is next: SQLite's own lock still keeps writers apart.
    """

    def __init__(self, file: str | None) -> None:
        """``file``: the database; None or ``:memory:`` belongs to this process alone."""
        self._files = [f"{file}-{turn}" for turn in ("next", "turn")] if file and file != ":memory:" else []
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: deque[threading.Lock] = deque()
        self._thread = threading.local()
        self._held = -1  # the file of this process's turn
        self._without_turns = 0.0  # until when, in monotonic seconds

    def let_thread_go_first(self) -> None:
        """Let this thread write before others that wait. It waits for at most one of this process."""
        self._thread.goes_first = True

    def __enter__(self) -> None:
        with self._lock:
            mine = threading.Lock() if self._busy else None
            self._busy = True
            if mine is not None:
                mine.acquire()
                (self._waiting.appendleft if hasattr(self._thread, "goes_first") else self._waiting.append)(mine)
        try:
            if mine is not None:
                mine.acquire()
            self._held = self._turn_of_process()
        except BaseException:  # the program was interrupted
            self._leave(mine)
            raise

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, -1
        try:
            if held >= 0:
                _unlock(held)
        finally:
            self._leave()

    def _leave(self, mine: "threading.Lock | None" = None) -> None:
        with self._lock:
            if mine is not None and mine in self._waiting:  # it had no turn yet
                self._waiting.remove(mine)
            elif self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False

    def _turn_of_process(self) -> int:
        if not self._files or (began := time.monotonic()) < self._without_turns:
            return -1
        until, held = began + TURN_SECONDS, -1
        if (following := _locked(self._files[0], until)) >= 0:
            try:
                held = _locked(self._files[1], until)
            finally:
                _unlock(following)
        if held < 0:
            self._without_turns = time.monotonic() + WITHOUT_TURNS_SECONDS
        return held


def _locked(path: str, until: float) -> int:
    """Lock a file; return its descriptor, or -1 if that is not possible before ``until`` (monotonic seconds)."""
    try:
        # Opened for each turn: after a fork, parent and child would hold the same lock.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # SQLite will say why, if it cannot write there either
        return -1
    try:
        while not _lock_now(file):
            if time.monotonic() > until:
                os.close(file)
                return -1
            time.sleep(_LOOK_SECONDS)
    except OSError:  # a file system without these locks; SQLite has others
        os.close(file)
        return -1
    except BaseException:
        os.close(file)
        raise
    return file


def _lock_now(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(file: int) -> None:
    # Not only closed: a child that was forked meanwhile has the file open, too.
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)
