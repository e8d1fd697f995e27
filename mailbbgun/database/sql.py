"""What statements on hot paths are made of: rows and ids in one parameter, and forms in which PostgreSQL plans them right."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Cast,
    ColumnElement,
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
from sqlalchemy.sql.expression import FromClause, bindparam
from sqlalchemy.types import TypeEngine


def recordset(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Return a derived table whose rows come from one JSON parameter called ``name``.

    One parameter and one constant statement, whatever the number of rows: set-based updates stay in every cache.
    Bind it with :func:`rows`. On SQLite column types must be ``Uuid``, ``Integer``, ``Float`` or ``String``.
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
    """Encode records for :func:`recordset`. For SQLite UUIDs must be given as ``uuid.hex``."""
    return orjson.dumps(list(records)).decode()


def ids(dialect: str, name: str) -> FromClause:
    """A derived table of one UUID column ``id``; bind it with :func:`id_rows`.

    PostgreSQL counts the elements of an array when it plans; of JSON it takes a hundred rows for granted, and reads whole tables.
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
    """Say that a column's value is one of the UUIDs of a parameter called ``name``; bind it with :func:`id_rows`.

    Of unique columns, PostgreSQL is never wrong about how many rows that are, and it plans it faster than a join with :func:`ids`.
    """
    if dialect == "postgresql":
        return column == any_(_uuids(name))
    return column.in_(select(ids(dialect, name).c.id))


def _uuids(name: str) -> Cast[Sequence[UUID]]:
    return sql_cast(bindparam(name, type_=String), ARRAY(Uuid()))


def for_each(dialect: str, given: FromClause, key: ColumnElement[UUID], rows_of: Select[Any]) -> Select[Any]:
    """Select ``rows_of`` for each id of ``given``, which must differ, by the index on ``key``; what else it asks should be :func:`unindexed`.

    PostgreSQL would rather begin with the pending rows whenever it believes them to be few, and it believes that of every backlog
    that has grown since it last counted. What has an OFFSET it does not turn around.
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
    """Return a text column's value in a form in which no index is looked for."""
    return column.concat("")


def unguessed(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return that all of these hold, in a form in which no index is looked for and which PostgreSQL takes to be true of every other row.

    It multiplies what it believes each to be true of; when it then expects one row, and there are 500, it walks all of another table for each.
    """
    return case((and_(*conditions), true()), else_=false())
