"""The tenant filter, a second fence between tenants: a session opened for one refuses every statement that does not name it.

The first are the queries themselves, which all ask for the tenant; this one finds the query in which that was forgotten, before it reaches the
database. Each SELECT, UPDATE and DELETE, however deep inside another, must compare ``tenant_id`` of each owned table it reads with the session's
tenant. Statements that serve all tenants at once (claims, results, sweeps) run in sessions for nobody, and name rows by id.

Ready statements (``database/ready.py``) have no session. They too serve all tenants at once, and :func:`refuse_unnamed` looks at each of them once,
when it is made ready.

A session for test data alone (``tests_only``) refuses besides every statement that may meet live data: of messages each part must ask for
``test``, what belongs to messages must be asked for by ``message_id IN (SELECT id FROM messages …)``, and nothing else of a tenant's is there at all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Delete, Engine, FromClause, Insert, Join, Select, Table, Update, event
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, Grouping, True_
from sqlalchemy.sql.selectable import Alias, ScalarSelect

from mailbbgun.core.errors import FencedQuery

TENANT = "mailbbgun_tenant"  # the execution option that names a session's tenant
TESTS_ONLY = "mailbbgun_tests_only"  # the execution option of a session that meets test data alone
COLUMN = "tenant_id"
MESSAGES, ID, TEST, MESSAGE_ID = (
    "messages",
    "id",
    "test",
    "message_id",
)  # the table that tells test data from live data, and its columns
MOST_REMEMBERED = 500  # forms of statements

Part = Select[Any] | Update | Delete
Demand = tuple[str, tuple[int, ...]]  # a table, and which of a statement's parameters its tenant is compared with


class Form(NamedTuple):
    """What is known of a form of statement."""

    demands: Sequence[Demand]
    live: Sequence[str]  # tables of which it may meet live data


def guard(engine: Engine) -> None:
    """Look at every statement of sessions that have a tenant. What a form of statement must name is found out once."""
    remembered: dict[Any, Form] = {}

    @event.listens_for(engine, "before_execute")
    def _look(connection: Any, statement: Any, multiparams: Any, params: Any, options: Mapping[str, Any]) -> None:
        tenant = connection.get_execution_options().get(TENANT)
        if tenant is None or (isinstance(statement, Insert) and statement.select is None):
            return  # an INSERT of values gives rows, and shows none
        form = statement._generate_cache_key() if isinstance(statement, Part | CompoundSelect | Insert) else None
        if form is None:
            raise FencedQuery("a statement that cannot be looked through")
        if form.key not in remembered:
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
            remembered[form.key] = Form(list(demands(statement, form.bindparams)), sorted(set(untested(statement))))
        known = remembered[form.key]
        if known.live and connection.get_execution_options().get(TESTS_ONLY):
            raise FencedQuery(f"a statement on {', '.join(known.live)} may meet live data")
        for given in multiparams or [params or {}]:
            for table, binds in known.demands:
                if not any(_value(form.bindparams[bind], given) == tenant for bind in binds):
                    raise FencedQuery(f"a statement on {table} names no tenant, or another one")


def refuse_unnamed(statement: Any) -> None:
    """Raise :class:`FencedQuery` unless a statement that serves all tenants at once says whose each row is, whatever its parameters are.

    What it inserts into an owned table must have a ``tenant_id`` of its own, not the column's default. Each owned table that it reads or
    changes must be limited, where nothing else can hold, to a tenant or to rows by key: a primary or foreign key equals, or is among,
    parameters, or keys of what is limited so.
    """
    if not isinstance(statement, Part | CompoundSelect | Insert):
        raise FencedQuery("a statement that cannot be looked through")
    for part in visitors.iterate(statement):
        if isinstance(part, Insert) and COLUMN in part.table.c and COLUMN not in _inserted(part):
            raise FencedQuery(f"an INSERT into {part.table} gives no {COLUMN}")
        if isinstance(part, Part) and (unnamed := _unnamed(part)):
            raise FencedQuery(f"a statement on {', '.join(sorted(unnamed))} reaches rows of all tenants")


def _inserted(part: Insert) -> set[str]:
    """Return the columns that an INSERT names."""
    if part.select is not None:
        return set(part._select_names or ())
    return {str(getattr(column, "name", column)) for column in part._values or ()}


def _unnamed(part: Part) -> set[str]:
    """Return the owned tables of a part that are limited neither to a tenant nor to rows by key."""
    froms, conditions, outer = _froms_and_conditions(part)
    left = {_name(one) for one in froms if COLUMN in one.c}
    keys = list(_keys(conditions))
    keys += [(joined, others) for joined, on in outer for whose, others in _keys([on]) if whose == joined]
    left -= {whose for whose, _ in _comparisons(conditions)}
    left -= {joined for joined, on in outer for whose, _ in _comparisons([on]) if whose == joined}
    # A join of two tables by their keys limits neither, unless one of them is limited.
    while found := {
        whose for whose, others in keys if whose in left and not others & left - {whose} and whose not in others
    }:
        left -= found
    return left


def _keys(conditions: Iterable[Any]) -> Iterator[tuple[str, set[str]]]:
    """Give each comparison of a table's key that must hold: the table's name, and the names of tables that the other side is of."""
    for condition in _all_of(conditions):
        if isinstance(condition, BinaryExpression) and condition.operator in (operators.eq, operators.in_op):
            for key, other in ((condition.left, condition.right), (condition.right, condition.left)):
                if getattr(key, "primary_key", False) or getattr(key, "foreign_keys", None):
                    yield _name(key.table), {_name(one) for one in other._from_objects if _of_a_table(one)}


def demands(statement: Any, parameters: Sequence[BindParameter[Any]]) -> Iterator[Demand]:
    """Give each owned table that a statement reads or changes, with the parameters that name its tenant."""
    places = {bind.key: place for place, bind in enumerate(parameters)}
    for part in visitors.iterate(statement):
        if isinstance(part, Part):
            froms, conditions, outer = _froms_and_conditions(part)
            named = list(_comparisons(conditions))
            # What an outer join asks for holds of the rows that it joins, and of no others.
            named += [(joined, bind) for joined, on in outer for whose, bind in _comparisons([on]) if whose == joined]
            for table in {_name(one) for one in froms if COLUMN in one.c}:
                yield table, tuple(places[bind.key] for whose, bind in named if whose == table and bind.key in places)


def untested(statement: Any) -> Iterator[str]:
    """Give each owned table that a statement reads or changes without asking that it be test data."""
    safe: set[int] = set()  # parts that only choose among messages which must be test data
    parts = [part for part in visitors.iterate(statement) if isinstance(part, Part)]  # what is outside first
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
    """Give each table, by its name in the FROM, of which the conditions let through test data alone."""
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
            yield _name(column.table)  # whether the inner part asks for test data is looked at where it comes itself


def _chosen_by(conditions: Iterable[Any]) -> Iterator[tuple[Any, Select[Any]]]:
    """Give each column that must be among what a SELECT gives, with that."""
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
    """Give each condition that must hold by itself."""
    waiting = list(conditions)
    while waiting:
        condition = waiting.pop()
        if getattr(condition, "operator", None) is operators.and_:
            waiting += condition.get_children()
        else:
            yield condition


def _froms_and_conditions(part: Part) -> tuple[list[FromClause], list[Any], list[tuple[str, Any]]]:
    """Return tables and aliases of tables that a part reads, what must hold of each row, and by what outer joins join which table.

    What a subquery reads is that one's own.
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
    """Give each comparison of a table's tenant with a value, of those that must hold: by the table's name, which is unique in its FROM."""
    for condition in _all_of(conditions):
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            column, value = condition.left, condition.right
            if getattr(column, "name", None) == COLUMN and isinstance(value, BindParameter):
                yield _name(column.table), value


def _of_a_table(one: FromClause) -> bool:
    """Say whether this is a table or an alias of one, and not a subquery or given rows."""
    return isinstance(one, Table) or (isinstance(one, Alias) and isinstance(one.element, Table))


def _name(table: Any) -> str:
    return str(table.name)


def _value(bind: BindParameter[Any], params: Mapping[str, Any]) -> Any:
    return params.get(bind.key, bind.effective_value)
