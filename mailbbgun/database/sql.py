"""Building blocks of statements on hot paths.

They pass many rows or ids in one parameter, and are written in forms that PostgreSQL plans well.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Cast,
    ColumnElement,
    Double,
    Select,
    String,
    Uuid,
    and_,
    any_,
    case,
    false,
    func,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import column as sql_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FromClause, FunctionElement, bindparam
from sqlalchemy.types import TypeEngine


def recordset(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Return a derived table whose rows come from one JSON parameter called ``name``.

    Bind the parameter with :func:`rows`. The statement's text is the same for any number of rows,
    so all caches of statements know it. On SQLite column types must be ``Uuid``, ``Integer``,
    ``Float`` or ``String``.
    """
    parameter = bindparam(name, type_=String)
    if dialect == "postgresql":
        typed = [sql_column(key, kind) for key, kind in columns.items()]
        return (
            func.json_to_recordset(sql_cast(parameter, _JSON()))
            .table_valued(*typed)
            .render_derived(name=f"{name}_rows", with_types=True)
        )
    each = func.json_each(parameter).table_valued("value", name=f"{name}_each")
    fields = [func.json_extract(each.c.value, f"$.{key}", type_=kind).label(key) for key, kind in columns.items()]
    return select(*fields).subquery(f"{name}_rows")


class _JSON(TypeEngine[str]):
    __visit_name__ = "JSON"


def rows(records: Sequence[Mapping[str, Any]]) -> str:
    """Encode records for :func:`recordset`. Give UUIDs as ``uuid.hex``, which SQLite needs."""
    return orjson.dumps(list(records)).decode()


def ids(dialect: str, name: str) -> FromClause:
    """Return a derived table with one UUID column ``id``. Bind its parameter with :func:`id_rows`.

    For PostgreSQL the parameter is an array, whose elements it counts when it plans. For JSON it
    would always expect a hundred rows, and read whole tables.
    """
    if dialect == "postgresql":
        return func.unnest(_uuids(name)).table_valued(sql_column("id", Uuid())).render_derived(name=f"{name}_rows")
    return recordset(dialect, name, {"id": Uuid()})


def id_rows(dialect: str, values: Iterable[UUID]) -> str:
    """Encode UUIDs for :func:`ids` and :func:`among`."""
    if dialect == "postgresql":
        return f"{{{','.join(value.hex for value in values)}}}"
    return rows([{"id": value.hex} for value in values])


def among(dialect: str, column: ColumnElement[UUID], name: str) -> ColumnElement[bool]:
    """Return the condition that a column is one of the UUIDs of a parameter called ``name``.

    Bind the parameter with :func:`id_rows`. For a unique column PostgreSQL always expects the right
    number of rows, and plans faster than for a join with :func:`ids`.
    """
    if dialect == "postgresql":
        return column == any_(_uuids(name))
    return column.in_(select(ids(dialect, name).c.id))


def chosen(dialect: str, column: ColumnElement[UUID], rows_of: CTE) -> ColumnElement[bool]:
    """Return the condition that a unique column is one of the ``id`` of a CTE.

    For an array from a subquery PostgreSQL expects ten rows, and uses the column's index. For a join with a
    CTE it would read a table of up to forty thousand rows as a whole, each time.
    """
    found = select(rows_of.c.id)
    if dialect == "postgresql":
        return column == any_(func.array(found.scalar_subquery(), type_=ARRAY(Uuid())))
    return column.in_(found)


def _uuids(name: str) -> Cast[Sequence[UUID]]:
    return sql_cast(bindparam(name, type_=String), ARRAY(Uuid()))


def for_each(dialect: str, given: FromClause, key: ColumnElement[UUID], rows_of: Select[Any]) -> Select[Any]:
    """Return a SELECT of ``rows_of`` for each id of ``given``, by the index on ``key``.

    The ids must differ. Other conditions of ``rows_of`` should be :func:`unindexed`.

    PostgreSQL would begin with the pending rows if it expected only a few. It does so for every
    backlog that has grown since its last ANALYZE. The OFFSET keeps it from changing the order.
    """
    found = rows_of.where(key == given.c.id)
    if dialect == "postgresql":
        one = found.offset(0).lateral()
        return select(*one.c).select_from(given.join(one, true()))
    return found


def rounded_down(dialect: str, number: ColumnElement[Any]) -> ColumnElement[int]:
    """Return a number that is not negative, rounded down.

    A cast of PostgreSQL rounds to the nearest number. Not every SQLite has ``floor()``.
    """
    return sql_cast(func.floor(number) if dialect == "postgresql" else number, BigInteger)


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return the value of a text column in a form for which PostgreSQL uses no index."""
    return column.concat("")


def unguessed(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that all of these hold, in a form for which PostgreSQL uses no index.

    PostgreSQL expects this form to hold for half of all rows. Otherwise it would multiply the
    fractions of rows that it expects for each condition. If it then expects one row and there are
    500, it reads all of another table for each of them.
    """
    return case((and_(*conditions), true()), else_=false())


class seconds_until(FunctionElement[float]):
    """``seconds_until(time)`` is how many seconds are left until a time; negative once it has passed.

    Null if the time is null.
    """

    type = Double()
    inherit_cache = True
    name = "seconds_until"


@compiles(seconds_until, "postgresql")
def _seconds_postgresql(element: seconds_until, compiler: SQLCompiler, **kw: Any) -> str:
    time = compiler.process(element.clauses, **kw)
    return f"CAST(extract(epoch FROM ({time} - statement_timestamp())) AS double precision)"


@compiles(seconds_until, "sqlite")
def _seconds_sqlite(element: seconds_until, compiler: SQLCompiler, **kw: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **kw)}) - julianday('now')) * 86400.0)"
