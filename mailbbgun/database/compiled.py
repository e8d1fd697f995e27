"""Compiled statements: compiled once to SQL text, and executed without a Session.

They are for hot paths: a Session and its transaction cost half a millisecond of CPU for each
commit. They return tuples instead of objects, and serve all tenants at once. The tenant filter
checks each statement when it is compiled. Connections come from the same pool, and errors are
those of SQLAlchemy.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Engine, Executable
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from mailbbgun.database import tenant_filter

#: Values of a statement's parameters, by name.
Values = Mapping[str, Any]
#: What a statement returns.
Rows = list[tuple[Any, ...]]


class CompiledStatement:
    """A statement that can be executed without a Session.

    Keep it: it is compiled once for each engine. Raises :class:`UnfilteredQuery` for a statement
    that could reach rows of all tenants (``tenant_filter.refuse_unnamed``). ``of_all_tenants``: it
    is meant to, as the search of a sweep is; then it may only read.
    """

    __slots__ = ("__weakref__", "statement")

    def __init__(self, statement: Executable, *, of_all_tenants: bool = False) -> None:
        if of_all_tenants:
            tenant_filter.refuse_writes(statement)
        else:
            tenant_filter.refuse_unnamed(statement)
        self.statement = statement


class StatementStep(NamedTuple):
    """One statement of a transaction, with values for each time that it is executed.

    A parameter without a value is null, unless the statement itself has a value for it.
    """

    statement: CompiledStatement
    given: Sequence[Values]


class Statements(Protocol):
    """Executes compiled statements of one transaction, which is committed with the last of them."""

    @property
    def dialect(self) -> str:
        """``postgresql`` or ``sqlite``."""

    def ask(self, statement: CompiledStatement, values: Values, *, last: bool = False) -> Rows:
        """Execute one statement and return its rows. ``last``: no other follows."""

    def run(self, steps: Sequence[StatementStep]) -> None:
        """Execute statements whose rows nobody needs. Others must follow."""

    def last(self, steps: Sequence[StatementStep]) -> None:
        """Execute the last statements, or none. No others may follow."""


class InSession:
    """Executes compiled statements in a session, whose opener commits.

    For a transaction that also needs what only a session can do.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.dialect = session.get_bind().dialect.name

    def ask(self, statement: CompiledStatement, values: Values, *, last: bool = False) -> Rows:
        """Execute one statement and return its rows."""
        return [tuple(row) for row in self._session.execute(statement.statement, values)]

    def run(self, steps: Sequence[StatementStep]) -> None:
        """Execute statements."""
        for statement, given in steps:
            if given:
                self._session.execute(statement.statement, given)

    def last(self, steps: Sequence[StatementStep]) -> None:
        """Execute statements."""
        self.run(steps)


class Runner:
    """Executes compiled statements on connections of an engine's pool."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compiled: WeakKeyDictionary[CompiledStatement, _Compiled] = WeakKeyDictionary()

    def commit(self, steps: Sequence[StatementStep]) -> None:
        """Execute all steps in one transaction and return when it is committed.

        On PostgreSQL this takes one round trip. Raises what a Session would: subclasses of
        :class:`sqlalchemy.exc.DBAPIError`, and :class:`sqlalchemy.exc.TimeoutError` if no
        connection is free.
        """
        with self.transaction() as statements:
            statements.last(steps)

    def ask(self, statement: CompiledStatement, values: Values) -> Rows:
        """Execute one statement, and return its rows when it is committed.

        Raises what :meth:`commit` does.
        """
        with self.transaction() as statements:
            return statements.ask(statement, values, last=True)

    def read(self, statement: CompiledStatement, values: Values) -> Rows:
        """Execute a statement that only reads, and return its rows. Raises what :meth:`commit` does."""
        compiled = self.compiled(statement)
        with self._connected() as connection, _autocommit(connection.driver_connection):
            cursor = connection.cursor()
            cursor.execute(compiled.sql, compiled.parameters(values))
            return compiled.rows(cursor)

    @contextmanager
    def transaction(self) -> Iterator[Statements]:
        """Open a transaction on a connection of the pool, and execute statements in it.

        If its last statement was not executed when the block ends, it is rolled back. Raises what
        :meth:`commit` does.
        """
        with self._connected() as connection:
            kind = _SQLiteStatements if self._engine.name == "sqlite" else _PostgreSQLStatements
            statements = kind(connection.driver_connection, self.compiled)
            with _autocommit(connection.driver_connection):
                try:
                    yield statements
                finally:
                    if statements.open:  # the driver knows of no transaction, so the pool would not roll back
                        with suppress(self._engine.dialect.loaded_dbapi.Error):  # then it is broken, and ends so
                            connection.cursor().execute("ROLLBACK")

    @contextmanager
    def _connected(self) -> Iterator[PoolProxiedConnection]:
        connection = self._connection()
        try:
            yield connection
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise self._failed(connection, error) from error
        except BaseException:  # it came in the middle of something: nobody may use this connection again
            connection.invalidate()
            raise
        finally:
            connection.close()  # this returns it to the pool, which rolls back an open transaction

    def compiled(self, statement: CompiledStatement) -> "_Compiled":
        """Return the SQL text of a statement for this engine."""
        found = self._compiled.get(statement)
        if found is None:
            found = self._compiled[statement] = _Compiled(statement.statement, self._engine.dialect)
        return found

    def _connection(self) -> PoolProxiedConnection:
        try:
            return self._engine.raw_connection()
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise self._wrapped(error, broken=False) from error

    def _failed(self, connection: PoolProxiedConnection, error: Exception) -> DBAPIError:
        dialect = self._engine.dialect
        broken = dialect.is_disconnect(error, connection, None)  # type: ignore[arg-type]  # any error will do
        if broken:
            connection.invalidate(error)
            self._engine.dispose()  # the idle connections are probably broken, too
        return self._wrapped(error, broken)

    def _wrapped(self, error: Exception, broken: bool) -> DBAPIError:
        dialect = self._engine.dialect
        wrapped = DBAPIError.instance(None, None, error, dialect.loaded_dbapi.Error, True, broken, dialect)
        assert isinstance(wrapped, DBAPIError)  # instance() wraps every error of the driver
        return wrapped


@contextmanager
def _autocommit(connection: Any) -> Iterator[None]:
    """Let the driver of PostgreSQL send nothing but what it is given.

    Setting the driver's flag sends nothing. SQLAlchemy's isolation level would send a SET, which
    behind PgBouncer would remain in effect for other clients. SQLite's driver never sends more.
    """
    if not hasattr(connection, "autocommit") or isinstance(connection, sqlite3.Connection):
        yield
        return
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.autocommit = False


class _SQLiteStatements:
    """SQLite runs in this process: there are no round trips to save."""

    dialect = "sqlite"
    open = False  # the pool rolls back

    def __init__(self, connection: Any, compiled: Callable[[CompiledStatement], "_Compiled"]) -> None:
        self._connection, self._compiled = connection, compiled
        self._cursor = connection.cursor()
        self._cursor.execute("BEGIN IMMEDIATE")

    def ask(self, statement: CompiledStatement, values: Values, *, last: bool = False) -> Rows:
        compiled = self._compiled(statement)
        self._cursor.execute(compiled.sql, compiled.parameters(values))
        found = compiled.rows(self._cursor)
        if last:
            self._connection.commit()
        return found

    def run(self, steps: Sequence[StatementStep]) -> None:
        for statement, given in steps:
            compiled = self._compiled(statement)
            parameters = list(map(compiled.parameters, given))
            if len(parameters) == 1:  # the driver lets a SELECT be executed only once
                self._cursor.execute(compiled.sql, parameters[0])
            else:
                self._cursor.executemany(compiled.sql, parameters)

    def last(self, steps: Sequence[StatementStep]) -> None:
        self.run(steps)
        self._connection.commit()


class _PostgreSQLStatements:
    """Sends several statements in one round trip, with BEGIN and COMMIT among them.

    The server runs statements that come together, without BEGIN, in one transaction. As in any
    transaction, each sees what others had committed when it began.
    """

    dialect = "postgresql"

    def __init__(self, connection: Any, compiled: Callable[[CompiledStatement], "_Compiled"]) -> None:
        self._compiled = compiled
        self._cursor = connection.cursor()
        self.open = False  # whether BEGIN was sent and COMMIT was not

    def ask(self, statement: CompiledStatement, values: Values, *, last: bool = False) -> Rows:
        compiled = self._compiled(statement)
        text = self._cursor.mogrify(compiled.sql, compiled.parameters(values))
        if not (last or self.open):
            text = b"BEGIN;" + text
            self.open = True
        self._cursor.execute(text)
        found = compiled.rows(self._cursor)
        if last and self.open:
            self.last([])
        return found

    def run(self, steps: Sequence[StatementStep]) -> None:
        if texts := self._texts(steps):
            self._cursor.execute(b";".join(texts if self.open else [b"BEGIN", *texts]))
            self.open = True

    def last(self, steps: Sequence[StatementStep]) -> None:
        texts = self._texts(steps)
        if self.open:
            texts.append(b"COMMIT")
        if texts:
            self._cursor.execute(b";".join(texts))
            self.open = False

    def _texts(self, steps: Sequence[StatementStep]) -> list[bytes]:
        return [
            self._cursor.mogrify(compiled.sql, compiled.parameters(values))
            for compiled, given in ((self._compiled(statement), given) for statement, given in steps)
            for values in given
        ]


class _Compiled:
    """The SQL text of a statement, and the converters of its parameters and results."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # all statements have it
        assert isinstance(compiled, SQLCompiler)
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError(f"its text depends on its parameters, so it cannot be compiled once: {compiled}")
        if compiled.insert_prefetch or compiled.update_prefetch:
            raise TypeError(f"Python has to compute defaults of its columns, so it cannot be compiled once: {compiled}")
        self.sql = compiled.string
        self._dialect = dialect
        self._kinds = [column.type.dialect_impl(dialect) for column in compiled._result_columns]
        self._positional = compiled.positional
        names = compiled.positiontup if compiled.positiontup is not None else list(compiled.bind_names.values())
        binds = compiled.binds
        self._slots = [(name, binds[name].effective_value, _to_driver(binds[name].type, dialect)) for name in names]

    def parameters(self, given: Values) -> Any:
        """Return the values for the driver: a list for question marks, else a dictionary."""
        if self._positional:
            return [_bound(given.get(name, value), convert) for name, value, convert in self._slots]
        return {name: _bound(given.get(name, value), convert) for name, value, convert in self._slots}

    def rows(self, cursor: DBAPICursor) -> Rows:
        """Return the rows of an executed statement, with their values as Python types."""
        found = cursor.fetchall()
        if not found:
            return []
        columns = zip(self._kinds, cursor.description or (), zip(*found, strict=True), strict=True)
        converted = []
        for kind, described, values in columns:
            convert = kind.result_processor(self._dialect, described[1])
            converted.append(values if convert is None else map(convert, values))
        return list(zip(*converted, strict=True))


def _to_driver(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _bound(value: Any, convert: Callable[[Any], Any] | None) -> Any:
    return value if convert is None else convert(value)
