"""The database: transactions, parents of tables, and SQL that differs between the databases."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Dialect, Double, MetaData, String, Uuid, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from mailbbgun.core.errors import ConfigurationError, DatabaseUnavailable
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database import engines, tenant_filter
from mailbbgun.database.compiled import CompiledStatement, Rows, Runner, Statements, StatementStep, Values
from mailbbgun.database.refusal import ONLY_READS, DatabaseRefusal

_SECRET_OPTIONS = ("password", "sslpassword")  # options of libpq that hold secrets


class Base(DeclarativeBase):
    """Parent of every table. It fixes the names of constraints, so that migrations can use them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Owned:
    """Parent of tables whose rows belong to a tenant. ``tenant_filter`` checks statements on them.

    The column has no foreign key, because each insert would lock the tenant's row. Tenants are
    suspended, never deleted. The default is for programs of an older version that still run after
    an upgrade of the schema.
    """

    tenant_id: Mapped[UUID] = mapped_column(Uuid, server_default=text(f"'{DEFAULT_TENANT.hex}'"))


#: The key in a column's ``info`` that marks it as encrypted.
ENCRYPTED = "mailbbgun_encrypted"


def encrypted(named_by: str) -> dict[str, str]:
    """Return the ``info`` of a column that is encrypted by ``database/crypto.py``.

    For example ``mapped_column(Text, info=encrypted(named_by="setting_name"))``. ``bin/mailbbgun
    encryption rotate`` re-encrypts such a column, and no command shows it. ``named_by`` is the column
    that tells people which secret it is. The table's primary key must be one column.
    """
    return {ENCRYPTED: named_by}


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, on both databases. SQLite stores them as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC. Raises ``ValueError`` for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class db_now(FunctionElement[datetime]):
    """``db_now()`` is the time by the database's clock, ``db_now(seconds)`` so much later.

    The seconds may be negative or a bound parameter.
    """

    type = UTCDateTime()
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "postgresql")
def _now_postgresql(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    # Not clock_timestamp(): it is volatile, so PostgreSQL would compare it with every row instead
    # of using an index.
    seconds = compiler.process(element.clauses, **kw)
    return f"(statement_timestamp() + {seconds} * interval '1 second')" if seconds else "statement_timestamp()"


@compiles(db_now, "sqlite")
def _now_sqlite(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    # Six digits after the second, as SQLAlchemy writes datetimes, so that texts sort by time.
    shifted = f", ({seconds}) || ' seconds'" if seconds else ""
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now'{shifted}) || '000')"


class db_epoch(FunctionElement[float]):
    """``db_epoch()`` is the database's clock in seconds since 1970, for arithmetic.

    SQLite's has milliseconds. Unlike :class:`db_now` it is read when it is evaluated. So it is
    later after a wait for a lock, and a comparison with it uses no index.
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
    """A text with its ASCII letters in lower case and every other character unchanged.

    It does not depend on the database's locale, so an index may use it.
    """

    type = String()
    inherit_cache = True
    name = "ascii_lower"


@compiles(ascii_lower, "postgresql")
def _ascii_lower_postgresql(element: ascii_lower, compiler: SQLCompiler, **kw: Any) -> str:
    return f'lower({compiler.process(element.clauses, **kw)} COLLATE "C")'


@compiles(ascii_lower, "sqlite")
def _ascii_lower_sqlite(element: ascii_lower, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower({compiler.process(element.clauses, **kw)})"


# Tables of ours, each with a right that our role lacks on it.
_LACKING = text(
    "SELECT relname, need FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS need "
    "WHERE relnamespace = to_regnamespace(current_schema()) AND relkind IN ('r', 'p') AND relname = ANY(:ours) "
    "AND NOT has_table_privilege(pg_class.oid, need) ORDER BY 1 LIMIT 1"
)

_AFTER = "mailbbgun_after_commit"  # in a session's ``info``: what to call after its commit


class Database:
    """One engine and its transactions. Thread-safe.

    If the database does not answer or refuses us, methods raise :class:`DatabaseUnavailable` from
    the driver's error.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 20,
        sqlite_synchronous: str = "FULL",
        connect_seconds: int = engines.CONNECT_SECONDS,
    ) -> None:
        """Read the URL, and connect to nothing yet. Raises :class:`ConfigurationError`."""
        try:
            self.url = make_url(url)
            self.dialect = self.url.get_backend_name()
            if self.dialect not in ("sqlite", "postgresql"):
                raise ValueError(self.dialect)
            self.engine = (
                engines.sqlite(self.url, pool_size, sqlite_synchronous)
                if self.dialect == "sqlite"
                else engines.postgresql(self.url, pool_size, connect_seconds)
            )
        except (ArgumentError, ImportError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "DATABASE_URL: must be sqlite:///path or postgresql+psycopg2://user:password@host/database"
            ) from error
        self._refusal = DatabaseRefusal(self.url)
        tenant_filter.guard(self.engine)
        self._compiled = Runner(self.engine)
        self._writer = engines.WritersTurns(self.url.database) if self.dialect == "sqlite" else engines.NoTurns()
        #: Lets the calling thread write before others of this process, where there is one writer at a time.
        self.let_thread_go_first = self._writer.let_thread_go_first

    @property
    def shown(self) -> str:
        """The database's URL for people to read, without its passwords."""
        return self.url.difference_update_query(_SECRET_OPTIONS).render_as_string(hide_password=True)

    @contextmanager
    def read(self, tenant: UUID | None = None, *, tests_only: bool = False) -> Iterator[Session]:
        """Open a session that only reads: rows of all tenants, of one, or only its test data.

        Raises :class:`DatabaseUnavailable`, :class:`UnfilteredQuery`.
        """
        with self._translated(), Session(self.engine, autoflush=False, expire_on_commit=False) as session:
            session.connection(
                execution_options={
                    engines.READING: True,
                    tenant_filter.TENANT: tenant,
                    tenant_filter.TESTS_ONLY: tests_only,
                }
            )
            yield session

    @contextmanager
    def write(self, tenant: UUID | None = None, *, tests_only: bool = False) -> Iterator[Session]:
        """Open a session that commits at the end of the block, and rolls back on any error.

        It may use rows of all tenants, of one, or only its test data. Raises
        :class:`DatabaseUnavailable`, :class:`UnfilteredQuery`.
        """
        with (
            self._translated(),
            self._writer,
            Session(self.engine, autoflush=False, expire_on_commit=False) as session,
            session.begin(),
        ):
            if tenant:
                session.connection(
                    execution_options={tenant_filter.TENANT: tenant, tenant_filter.TESTS_ONLY: tests_only}
                )
            yield session
        for call in session.info.get(_AFTER, ()):
            call()

    def commit(self, steps: Sequence[StatementStep]) -> None:
        """Execute compiled statements (``database/compiled.py``) in one transaction, and commit it.

        Raises :class:`DatabaseUnavailable`; the transaction may have been committed all the same.
        If the database refuses the values, raises a ``DBAPIError``; then it was not committed.
        """
        with self._translated(), self._writer:
            self._compiled.commit(steps)

    def ask(self, statement: CompiledStatement, values: Values) -> Rows:
        """Execute one compiled statement; return its rows when it is committed.

        Raises what :meth:`commit` does.
        """
        with self._translated(), self._writer:
            return self._compiled.ask(statement, values)

    def find(self, statement: CompiledStatement, values: Values) -> Rows:
        """Return the rows of a compiled statement that only reads. Raises :class:`DatabaseUnavailable`."""
        with self._translated():
            return self._compiled.read(statement, values)

    @contextmanager
    def statements(self) -> Iterator[Statements]:
        """Open a transaction for several compiled statements. It is committed with the last of them.

        If the block ends before that, it is rolled back. Raises what :meth:`commit` does.
        """
        with self._translated(), self._writer, self._compiled.transaction() as statements:
            yield statements

    def check_writable(self) -> None:
        """Raise :class:`DatabaseUnavailable` if the database may only be read, as on a standby, if
        it cannot hold every letter, or if our role lacks a right on one of our tables.
        """
        if self.dialect != "postgresql":
            return
        with self.write() as session:
            if (encoding := session.execute(text("SHOW server_encoding")).scalar_one()) != "UTF8":
                raise DatabaseUnavailable(f"DATABASE_URL: {self._refusal.not_utf8(encoding)}", refused=True)
            if session.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
                raise DatabaseUnavailable(ONLY_READS)
            lacking = session.execute(_LACKING, {"ours": list(Base.metadata.tables)}).first()
        if lacking:
            why = self._refusal.lacks_right(f"{lacking[1]} on table {lacking[0]}")
            raise DatabaseUnavailable(f"DATABASE_URL: {why}", refused=True)

    def check_search_path(self) -> None:
        """Raise :class:`DatabaseUnavailable` if PostgreSQL knows no schema to look for tables in."""
        if self.dialect == "postgresql":
            with self.read() as session:
                if session.execute(text("SELECT current_schema()")).scalar_one() is None:
                    raise DatabaseUnavailable(f"DATABASE_URL: {self._refusal.no_schema}", refused=True)

    def weaknesses(self) -> list[str]:
        """Return each setting of the server that would let a power cut lose committed messages."""
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
        """Raise our own errors in place of SQLAlchemy's about the server or the connection."""
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable("every connection to the database is busy") from error
        except DBAPIError as error:
            if ours := self._refusal.translated(error):
                raise ours from error
            raise


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Run ``call`` after the commit of a session that :meth:`Database.write` opened."""
    session.info.setdefault(_AFTER, []).append(call)


def wait_at_most(session: Session, seconds: float) -> None:
    """Limit how long this transaction waits for locks of others.

    After that ``OperationalError`` is raised. It also lets PostgreSQL end the transaction if it is
    idle for 30 seconds. So if our machine vanishes, our locks are released soon. On SQLite there is
    no other writer, and nothing is done.
    """
    if dialect_of(session) == "postgresql":
        limits = (
            f"SET LOCAL lock_timeout = {round(seconds * 1000)}; SET LOCAL idle_in_transaction_session_timeout = 30000"
        )
        session.connection().exec_driver_sql(limits)  # plain SQL, which the tenant filter would refuse
