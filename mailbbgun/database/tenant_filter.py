"""The tenant filter refuses statements that are not limited to the tenant they serve.

All our queries ask for the tenant. The filter is a second safeguard: it finds a query that forgot
to, before it reaches the database. An *owned* table has a ``tenant_id``. A *part* is one SELECT,
UPDATE or DELETE, which may be deep inside another statement.

* In a session that was opened for a tenant, each part must compare the ``tenant_id`` of each owned
  table that it reads with that tenant.
* In a session for test data only (``tests_only``), each part must also ask messages for ``test``,
  and find rows that belong to messages by ``message_id IN (SELECT id FROM messages …)``. It may
  read no other owned table.
* Sessions without a tenant are not checked. Claims, results and sweeps use them: they serve all
  tenants at once and name rows by id.
* Compiled statements (``database/compiled.py``) have no session and serve all tenants at once, too.
  :func:`refuse_unnamed` checks each of them once, when it is compiled. One that is marked as a
  search among the rows of all tenants may only read (:func:`refuse_writes`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Delete, Engine, FromClause, Insert, Join, Select, Table, Update, event
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, Grouping, True_
from sqlalchemy.sql.selectable import Alias, ScalarSelect

from mailbbgun.core.errors import UnfilteredQuery

#: The execution option with a session's tenant.
TENANT = "mailbbgun_tenant"
#: The execution option of a session for test data only.
TESTS_ONLY = "mailbbgun_tests_only"
#: The column of owned tables.
COLUMN = "tenant_id"
# The table that tells test data from live data, and its columns.
MESSAGES, ID, TEST, MESSAGE_ID = "messages", "id", "test", "message_id"
#: How many forms of statements are remembered.
MOST_REMEMBERED = 500

Part = Select[Any] | Update | Delete
#: An owned table, and the numbers of the parameters that its tenant is compared with.
Demand = tuple[str, tuple[int, ...]]


class Form(NamedTuple):
    """What is known of all statements that differ only in their parameters."""

    demands: Sequence[Demand]
    live: Sequence[str]  # tables of which they may read live data


def guard(engine: Engine) -> None:
    """Check every statement of sessions that have a tenant.

    The form of a statement is analysed only once.
    """
    remembered: dict[Any, Form] = {}

    @event.listens_for(engine, "before_execute")
    def _check(connection: Any, statement: Any, multiparams: Any, params: Any, options: Mapping[str, Any]) -> None:
        tenant = connection.get_execution_options().get(TENANT)
        if tenant is None or (isinstance(statement, Insert) and statement.select is None):
            return  # an INSERT of values reads no rows
        form = statement._generate_cache_key() if isinstance(statement, Part | CompoundSelect | Insert) else None
        if form is None:
            raise UnfilteredQuery("a statement that cannot be looked through")
        if form.key not in remembered:
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
            remembered[form.key] = Form(list(demands(statement, form.bindparams)), sorted(set(untested(statement))))
        known = remembered[form.key]
        if known.live and connection.get_execution_options().get(TESTS_ONLY):
            raise UnfilteredQuery(f"a statement on {', '.join(known.live)} may meet live data")
        for given in multiparams or [params or {}]:
            for table, binds in known.demands:
                if not any(_value(form.bindparams[bind], given) == tenant for bind in binds):
                    raise UnfilteredQuery(f"a statement on {table} names no tenant, or another one")


def refuse_unnamed(statement: Any) -> None:
    """Raise :class:`UnfilteredQuery` if a statement could reach rows of all tenants.

    An INSERT into an owned table must give a ``tenant_id``, not use the column's default. Each
    other owned table must be limited, by a condition that always holds, to a tenant or to rows by
    key: a primary or foreign key equals, or is among, parameters or keys of a table that is limited
    itself.
    """
    if not isinstance(statement, Part | CompoundSelect | Insert):
        raise UnfilteredQuery("a statement that cannot be looked through")
    for part in visitors.iterate(statement):
        if isinstance(part, Insert) and COLUMN in part.table.c and COLUMN not in _inserted(part):
            raise UnfilteredQuery(f"an INSERT into {part.table} gives no {COLUMN}")
        if isinstance(part, Part) and (unnamed := _unnamed(part)):
            raise UnfilteredQuery(f"a statement on {', '.join(sorted(unnamed))} reaches rows of all tenants")


def refuse_writes(statement: Any) -> None:
    """Raise :class:`UnfilteredQuery` if a statement does more than read."""
    if not isinstance(statement, Select | CompoundSelect) or any(
        isinstance(part, Insert | Update | Delete) for part in visitors.iterate(statement)
    ):
        raise UnfilteredQuery("a statement on rows of all tenants that does more than read")


def _inserted(part: Insert) -> set[str]:
    """Return the columns that an INSERT names."""
    if part.select is not None:
        return set(part._select_names or ())
    return {str(getattr(column, "name", column)) for column in part._values or ()}


def _unnamed(part: Part) -> set[str]:
    """Return the owned tables of a part that are limited neither to a tenant nor to rows by key."""
    froms, conditions, outer = _froms_and_conditions(part)
    unlimited = {_name(one) for one in froms if COLUMN in one.c}
    keys = list(_keys(conditions))
    keys += [(joined, others) for joined, on in outer for table, others in _keys([on]) if table == joined]
    unlimited -= {table for table, _ in _comparisons(conditions)}
    unlimited -= {joined for joined, on in outer for table, _ in _comparisons([on]) if table == joined}
    # A join of two tables by their keys limits neither, unless one of them is limited.
    while found := {
        table
        for table, others in keys
        if table in unlimited and not others & unlimited - {table} and table not in others
    }:
        unlimited -= found
    return unlimited


def _keys(conditions: Iterable[Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield the table of each key that must equal something, and the tables of the other side."""
    for condition in _all_of(conditions):
        if isinstance(condition, BinaryExpression) and condition.operator in (operators.eq, operators.in_op):
            for key, other in ((condition.left, condition.right), (condition.right, condition.left)):
                if getattr(key, "primary_key", False) or getattr(key, "foreign_keys", None):
                    yield _name(key.table), {_name(one) for one in other._from_objects if _of_a_table(one)}


def demands(statement: Any, parameters: Sequence[BindParameter[Any]]) -> Iterator[Demand]:
    """Yield each owned table of a statement, with the parameters that name its tenant."""
    places = {bind.key: place for place, bind in enumerate(parameters)}
    for part in visitors.iterate(statement):
        if isinstance(part, Part):
            froms, conditions, outer = _froms_and_conditions(part)
            named = list(_comparisons(conditions))
            # The condition of an outer join holds only for the rows that it joins.
            named += [(joined, bind) for joined, on in outer for table, bind in _comparisons([on]) if table == joined]
            for owned in {_name(one) for one in froms if COLUMN in one.c}:
                yield owned, tuple(places[bind.key] for table, bind in named if table == owned and bind.key in places)


def untested(statement: Any) -> Iterator[str]:
    """Yield each owned table of which a statement may read or change live data."""
    safe: set[int] = set()  # parts that only choose from messages that must be test data
    parts = [part for part in visitors.iterate(statement) if isinstance(part, Part)]  # outer parts come first
    for part in parts:
        froms, conditions, outer = _froms_and_conditions(part)
        asked = set(_asked_for_test(conditions))
        for joined, on in outer:
            asked |= {table for table in _asked_for_test([on]) if table == joined}
        for table in froms:
            if COLUMN not in table.c or _name(table) in asked or (id(part) in safe and MESSAGE_ID in table.c):
                continue
            yield _name(table)
        if any(_name(table) in asked and TEST in table.c for table in froms):
            safe |= {
                id(inner) for column, inner in _chosen_by(conditions) if column.name == ID and TEST in column.table.c
            }


def _asked_for_test(conditions: Iterable[Any]) -> Iterator[str]:
    """Yield each table, by its name in the FROM, of which the conditions select only test data."""
    for condition in _all_of(conditions):
        if (
            isinstance(condition, BinaryExpression)
            and condition.operator is operators.eq
            and isinstance(condition.right, True_)
        ):
            column: Any = condition.left
            if getattr(column, "name", None) == TEST:
                yield _name(column.table)
    for column, inner in _chosen_by(conditions):
        if column.name == MESSAGE_ID and [_name(one) for one in inner._from_obj or inner.get_final_froms()] == [
            MESSAGES
        ]:
            yield _name(column.table)  # whether the inner part asks for test data is checked when its turn comes


def _chosen_by(conditions: Iterable[Any]) -> Iterator[tuple[Any, Select[Any]]]:
    """Yield each column whose value must be among the results of a SELECT, with that SELECT."""
    for condition in _all_of(conditions):
        if (
            isinstance(condition, BinaryExpression)
            and condition.operator is operators.in_op
            and hasattr(condition.left, "table")
        ):
            inner: Any = condition.right
            while isinstance(inner, Grouping | ScalarSelect):
                inner = inner.element
            if isinstance(inner, Select):
                yield condition.left, inner


def _all_of(conditions: Iterable[Any]) -> Iterator[Any]:
    """Yield each condition that must hold by itself: the terms of conjunctions."""
    waiting = list(conditions)
    while waiting:
        condition = waiting.pop()
        if getattr(condition, "operator", None) is operators.and_:
            waiting += condition.get_children()
        else:
            yield condition


def _froms_and_conditions(part: Part) -> tuple[list[FromClause], list[Any], list[tuple[str, Any]]]:
    """Return three lists about a part, without its subqueries, which are parts themselves.

    They are the tables and aliases of tables that it reads, the conditions that must hold for each
    row, and the outer joins: the name of the joined table, and the join's condition.
    """
    outer: list[tuple[str, Any]] = []
    conditions: list[Any] = list(part._where_criteria)
    found: list[Any] = [one for condition in conditions for one in condition._from_objects]
    if isinstance(part, Select):
        found += [*part._from_obj, *(one for column in part._raw_columns for one in column._from_objects)]
        for target, on, _, how in part._setup_joins:
            found += target._from_objects
            if on is not None and (how["isouter"] or how["full"]):
                outer += [(_name(one), on) for one in target._from_objects if not how["full"]]
            elif on is not None:
                conditions.append(on)
    else:
        found.append(part.table)
    froms: list[FromClause] = []
    while found:
        one = found.pop()
        if isinstance(one, Join):
            found += [one.left, one.right]
            if not one.isouter:
                conditions.append(one.onclause)
            elif not one.full:
                outer += [(_name(right), one.onclause) for right in one.right._from_objects]
        elif _of_a_table(one):
            froms.append(one)
    return froms, conditions, outer


def _comparisons(conditions: Iterable[Any]) -> Iterator[tuple[str, BindParameter[Any]]]:
    """Yield each comparison of a table's tenant with a parameter that must hold.

    The table is given by its name, which is unique in its FROM.
    """
    for condition in _all_of(conditions):
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            column, value = condition.left, condition.right
            if getattr(column, "name", None) == COLUMN and isinstance(value, BindParameter):
                yield _name(column.table), value


def _of_a_table(one: FromClause) -> bool:
    """Return whether this is a table or an alias of one, and no subquery or given rows."""
    return isinstance(one, Table) or (isinstance(one, Alias) and isinstance(one.element, Table))


def _name(table: Any) -> str:
    return str(table.name)


def _value(bind: BindParameter[Any], params: Mapping[str, Any]) -> Any:
    return params.get(bind.key, bind.effective_value)
