"""Compiled statements: compiled once to SQL text, and executed without a Session.

They are for hot paths: a Session and its transaction cost half a millisecond of CPU for each
commit. They return tuples instead of objects, and serve all tenants at once. The tenant filter
checks each statement when it is compiled. Connections come from the same pool, and errors are
those of SQLAlchemy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Engine, Executable
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from mailbbgun.database import tenant_filter

#: Values of a statement's parameters, by name.
Values = Mapping[str, Any]
#: What a statement returns.
Rows = list[tuple[Any, ...]]
#: A compiled statement, with values for each time that it is executed.
Prepared = tuple["_Compiled", Sequence[Values]]


class CompiledStatement:
    """A statement that can be executed without a Session.

    Keep it: it is compiled once for each engine. Raises :class:`UnfilteredQuery` for a statement
    that could reach rows of all tenants (``tenant_filter.refuse_unnamed``).
    """

    __slots__ = ("statement",)

    def __init__(self, statement: Executable) -> None:
        tenant_filter.refuse_unnamed(statement)
        self.statement = statement


class StatementStep(NamedTuple):
    """One statement of a transaction, with values for each time that it is executed.

    A parameter without a value is null, unless the statement itself has a value for it.
    """

    statement: CompiledStatement
    given: Sequence[Values]


class Runner:
    """Executes compiled statements on connections of an engine's pool."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compiled: dict[CompiledStatement, _Compiled] = {}

    def commit(self, steps: Sequence[StatementStep]) -> None:
        """Execute all steps in one transaction and return when it is committed.

        On PostgreSQL a single statement commits itself, in one round trip. Raises what a Session
        would: subclasses of :class:`sqlalchemy.exc.DBAPIError`, and
        :class:`sqlalchemy.exc.TimeoutError` if no connection is free.
        """
        self._run([(self._of(step.statement), step.given) for step in steps])

    def ask(self, statement: CompiledStatement, values: Values) -> Rows:
        """Execute one statement, and return its rows when it is committed.

        Raises what :meth:`commit` does.
        """
        compiled = self._of(statement)
        return self._run([(compiled, [values])], compiled.rows)

    def _run(self, prepared: Sequence[Prepared], read: Callable[[DBAPICursor], Rows] = lambda cursor: []) -> Rows:
        connection = self._connection()
        try:
            return _execute(connection.driver_connection, self._engine.name, prepared, read)
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise self._failed(connection, error) from error
        except BaseException:  # it came in the middle of something: nobody may use this connection again
            connection.invalidate()
            raise
        finally:
            connection.close()  # this returns it to the pool, which rolls back an open transaction

    def _of(self, statement: CompiledStatement) -> "_Compiled":
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


def _execute(
    connection: Any,
    dialect: str,
    prepared: Sequence[Prepared],
    read: Callable[[DBAPICursor], Rows],
) -> Rows:
    """Execute statements in one transaction.

    Return what ``read`` returns for the cursor after the last one.
    """
    if dialect == "sqlite":
        found = _execute_all(connection.cursor(), prepared, read, "BEGIN IMMEDIATE")
        connection.commit()
    elif len(prepared) == 1 and len(prepared[0][1]) == 1:
        # Setting the driver's flag sends nothing. SQLAlchemy's isolation level would send a SET,
        # which behind PgBouncer would remain in effect for other clients.
        connection.autocommit = True
        try:
            found = _execute_all(connection.cursor(), prepared, read)
        finally:
            if not connection.closed:
                connection.autocommit = False
    else:
        found = _execute_all(connection.cursor(), prepared, read)
        connection.commit()
    return found


def _execute_all(
    cursor: DBAPICursor,
    prepared: Iterable[Prepared],
    read: Callable[[DBAPICursor], Rows],
    begin: str | None = None,
) -> Rows:
    if begin:
        cursor.execute(begin)
    for compiled, given in prepared:
        if len(given) == 1:
            cursor.execute(compiled.sql, compiled.parameters(given[0]))
        elif given:
            cursor.executemany(compiled.sql, list(map(compiled.parameters, given)))
    found = read(cursor)
    cursor.close()
    return found


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
        columns = zip(self._kinds, cursor.description or (), strict=True)
        converts = [kind.result_processor(self._dialect, column[1]) for kind, column in columns]
        return [
            tuple(_bound(value, convert) for value, convert in zip(row, converts, strict=True))
            for row in cursor.fetchall()
        ]


def _to_driver(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _bound(value: Any, convert: Callable[[Any], Any] | None) -> Any:
    return value if convert is None else convert(value)
