"""The database: one engine, two kinds of transaction, and the few constructs that differ between PostgreSQL and SQLite."""

import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import DateTime, Dialect, Double, Engine, MetaData, String, Uuid, create_engine, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from mailbbgun.core.errors import ConfigurationError, DatabaseUnavailable
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database import tenant_filter as fence
from mailbbgun.database.ready import ReadyStatement, Rows, Runner, StatementStep, Values
from mailbbgun.database.refusal import DatabaseRefusal
from mailbbgun.database.texts import HAS_FOLDED, has_folded

SQLITE_BUSY_SECONDS = 15
CONNECT_SECONDS = 10
_SECRET_OPTIONS = ("password", "sslpassword")  # of libpq


class Base(DeclarativeBase):
    """Parent of every table. Names of constraints are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Owned:
    """What belongs to a tenant. Statements of a session that was opened for one must say so: see ``fence``.

    No foreign key: each insert would lock the tenant's row. Tenants are suspended, never deleted. The default is for what an older version
    writes while a newer one's schema is there already.
    """

    tenant_id: Mapped[UUID] = mapped_column(Uuid, server_default=text(f"'{DEFAULT_TENANT.hex}'"))


ENCRYPTED = "mailbbgun_encrypted"  # in a column's ``info``


def encrypted(named_by: str) -> dict[str, str]:
    """Mark a column as encrypted by ``database/crypto.py``: ``mapped_column(Text, info=encrypted(named_by="setting_name"))``.

    What is marked is re-encrypted by ``bin/mailbbgun encryption rotate`` and shown by no command. ``named_by`` is the column that tells people which
    secret it is. The table's primary key must be one column.
    """
    return {ENCRYPTED: named_by}


class UTCDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on both databases; SQLite keeps them as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class db_now(FunctionElement[datetime]):
    """``db_now()`` is the database's clock; ``db_now(seconds)`` that many seconds from now (may be negative or a bind)."""

    type = UTCDateTime()
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "postgresql")
def _now_postgresql(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    # Not clock_timestamp(): that is volatile, so a comparison with it walks past every row instead of bounding an index.
    seconds = compiler.process(element.clauses, **kw)
    return f"(statement_timestamp() + {seconds} * interval '1 second')" if seconds else "statement_timestamp()"


@compiles(db_now, "sqlite")
def _now_sqlite(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    # Six digits, as SQLAlchemy writes datetimes, so that text compares as time does.
    shifted = f", ({seconds}) || ' seconds'" if seconds else ""
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now'{shifted}) || '000')"


class db_epoch(FunctionElement[float]):
    """``db_epoch()`` is the database's clock in seconds since 1970, for arithmetic that is the same on both; SQLite's has milliseconds.

    Unlike :class:`db_now` it is the moment at which it is looked at: after a wait for a lock it is later, and no index is bounded by it.
    """

    type = Double()
    inherit_cache = True
    name = "db_epoch"


@compiles(db_epoch, "postgresql")
def _epoch_postgresql(element: db_epoch, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(db_epoch, "sqlite")
def _epoch_sqlite(element: db_epoch, compiler: SQLCompiler, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def dialect_of(session: Session) -> str:
    """Return ``postgresql`` or ``sqlite``."""
    return session.get_bind().dialect.name


class ascii_lower(FunctionElement[str]):
    """A text with its ASCII letters in lower case and every other character as it is, whatever the database's locale: indexes may be on it."""

    type = String()
    inherit_cache = True
    name = "ascii_lower"


@compiles(ascii_lower, "postgresql")
def _ascii_lower_postgresql(element: ascii_lower, compiler: SQLCompiler, **kw: Any) -> str:
    return f'lower({compiler.process(element.clauses, **kw)} COLLATE "C")'


@compiles(ascii_lower, "sqlite")
def _ascii_lower_sqlite(element: ascii_lower, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower({compiler.process(element.clauses, **kw)})"


_AFTER = "mailbbgun_after_commit"


class Database:
    """One engine and its transactions. Foreign errors leave here as :class:`DatabaseUnavailable`, the cause kept."""

    def __init__(
        self, url: str, *, pool_size: int = 20, sqlite_synchronous: str = "FULL", connect_seconds: int = CONNECT_SECONDS
    ) -> None:
        try:
            self.url = make_url(url)
            self.dialect = self.url.get_backend_name()
            if self.dialect not in ("sqlite", "postgresql"):
                raise ValueError(self.dialect)
            make = (
                partial(_sqlite, synchronous=sqlite_synchronous)
                if self.dialect == "sqlite"
                else partial(_postgresql, seconds=connect_seconds)
            )
            self.engine = make(self.url, pool_size)
        except (ArgumentError, ImportError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "DATABASE_URL: must be sqlite:///path or postgresql+psycopg2://user:password@host/database"
            ) from error
        self._refusal = DatabaseRefusal(self.url)
        fence.guard(self.engine)
        self._ready = Runner(self.engine)
        # SQLite has one writer at a time: queueing here is fair, its own busy handler is not.
        self._writer: threading.Lock | _NoLock = threading.Lock() if self.dialect == "sqlite" else _NoLock()

    @property
    def shown(self) -> str:
        """The database's URL for people to read: without its password, which libpq also takes as an option of the URL."""
        return self.url.difference_update_query(_SECRET_OPTIONS).render_as_string(hide_password=True)

    @contextmanager
    def read(self, tenant: UUID | None = None, *, tests_only: bool = False) -> Iterator[Session]:
        """A session for reading only, of what one tenant owns if it is given; of its test data if ``tests_only``.

        Raises :class:`DatabaseUnavailable`, :class:`FencedQuery`.
        """
        with self._translated(), Session(self.engine, autoflush=False, expire_on_commit=False) as session:
            session.connection(
                execution_options={"mailbbgun_read": True, fence.TENANT: tenant, fence.TESTS_ONLY: tests_only}
            )
            yield session

    @contextmanager
    def write(self, tenant: UUID | None = None, *, tests_only: bool = False) -> Iterator[Session]:
        """A session that commits at the end and rolls back on any error; in what one tenant owns if it is given, in its test data if ``tests_only``.

        Raises :class:`DatabaseUnavailable`, :class:`FencedQuery`.
        """
        with (
            self._translated(),
            self._writer,
            Session(self.engine, autoflush=False, expire_on_commit=False) as session,
            session.begin(),
        ):
            if tenant:
                session.connection(execution_options={fence.TENANT: tenant, fence.TESTS_ONLY: tests_only})
            yield session
        for tell in session.info.get(_AFTER, ()):
            tell()

    def commit(self, steps: Sequence[StatementStep]) -> None:
        """Execute ready statements for all tenants in one transaction, without a Session, and return when it is committed. See ``database/ready.py``.

        Raises :class:`DatabaseUnavailable`, after which they may be committed all the same; or what the database says of their values, and
        then they are not.
        """
        with self._translated(), self._writer:
            self._ready.commit(steps)

    def ask(self, ready: ReadyStatement, values: Values) -> Rows:
        """Execute one ready statement for all tenants, without a Session; return its rows when it is committed.

        Raises what :meth:`commit` does.
        """
        with self._translated(), self._writer:
            return self._ready.ask(ready, values)

    def weaknesses(self) -> list[str]:
        """Name each server setting that would let a committed message vanish in a power cut; empty when all is well."""
        with self.read() as session:
            if self.dialect == "sqlite":
                level = session.execute(text("PRAGMA synchronous")).scalar_one()
                return [] if level >= 2 else [f"SQLite synchronous={level} (needs FULL)"]
            names = ("fsync", "synchronous_commit", "full_page_writes")
            values = {name: session.execute(text(f"SHOW {name}")).scalar_one() for name in names}
        return [f"PostgreSQL {name}={value}" for name, value in values.items() if value == "off"]

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable("every connection to the database is busy") from error
        except DBAPIError as error:
            if why := self._refusal.of(error):
                raise DatabaseUnavailable(f"DATABASE_URL: {why}", refused=True) from error
            if isinstance(error, OperationalError | InterfaceError):
                raise DatabaseUnavailable("the database does not answer") from error
            if error.connection_invalidated:
                raise DatabaseUnavailable("the connection to the database broke") from error
            raise


def after_commit(session: Session, tell: Callable[[], None]) -> None:
    """Call ``tell`` when what ``session`` writes is committed."""
    session.info.setdefault(_AFTER, []).append(tell)


def wait_at_most(session: Session, seconds: float) -> None:
    """Let what follows in this transaction wait so long for rows that another one holds; then ``OperationalError`` is raised.

    And should our machine vanish now, PostgreSQL lets go of what we hold soon, and not when TCP gives us up. On SQLite nobody else writes.
    """
    if dialect_of(session) == "postgresql":
        limits = (
            f"SET LOCAL lock_timeout = {round(seconds * 1000)}; SET LOCAL idle_in_transaction_session_timeout = 30000"
        )
        session.connection().exec_driver_sql(limits)  # words of our own, which a fence cannot look through


class _NoLock:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _postgresql(url: URL, pool_size: int, seconds: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,  # they are message bodies, and errors are logged
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        # A host that vanishes without a word must not hold a thread for the quarter of an hour that TCP would wait.
        connect_args={
            "connect_timeout": seconds,
            "application_name": "mailbbgun",
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # ms
        },
    )

    @event.listens_for(engine, "checkout")
    def _look(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        # Nothing has been asked on it yet: that it broke while it was idle can be mended here, and there only, without anybody's notice.
        if record.info.get(_USED) and _has_ended(connection):
            raise DisconnectionError("the server ended this connection while nobody used it")
        record.info[_USED] = True  # a fresh one may have something to read: TLS 1.3 sends tickets when it likes

    return engine


_USED = "mailbbgun_used"


def _has_ended(connection: Any) -> bool:
    """Return whether an idle connection has something to read. Nobody has asked anything, so it is the server's goodbye, or the end of the stream."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _sqlite(url: URL, pool_size: int, synchronous: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the "begin" event below opens transactions, not the driver
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function(HAS_FOLDED, 2, has_folded, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that turns to writing can fail at once with "database is locked", busy timeout or not.
        reading = connection.get_execution_options().get("mailbbgun_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
