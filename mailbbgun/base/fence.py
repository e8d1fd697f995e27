"""The second fence between tenants: a session opened for one refuses every statement that does not name it.

The first are the queries themselves, which all ask for the tenant; this one finds the query in which that was forgotten, before it reaches the
database. Each SELECT, UPDATE and DELETE, however deep inside another, must compare ``tenant_id`` of each owned table it reads with the session's
tenant. Statements that serve all tenants at once (claims, results, sweeps) run in sessions for nobody, and name rows by id.

Ready statements (``base/ready.py``) have no session. They too serve all tenants at once, and :func:`refuse_unnamed` looks at each of them once,
when it is made ready.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CompoundSelect, Delete, Engine, FromClause, Insert, Join, Select, Table, Update, event
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.selectable import Alias

from mailbbgun.base.errors import FencedQuery

TENANT = "mailbbgun_tenant"  # the execution option that names a session's tenant
COLUMN = "tenant_id"
MOST_REMEMBERED = 500  # forms of statements

Part = Select[Any] | Update | Delete
Demand = tuple[str, tuple[int, ...]]  # a table, and which of a statement's parameters its tenant is compared with


def guard(engine: Engine) -> None:
    """Look at every statement of sessions that have a tenant. What a form of statement must name is found out once."""
    remembered: dict[Any, Sequence[Demand]] = {}

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
            remembered[form.key] = list(demands(statement, form.bindparams))
        for given in multiparams or [params or {}]:
            for table, binds in remembered[form.key]:
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
    while found := {whose for whose, others in keys if whose in left and not others & left - {whose} and whose not in others}:
        left -= found
    return left


def _keys(conditions: Iterable[Any]) -> Iterator[tuple[str, set[str]]]:
    """Give each comparison of a table's key that must hold: the table's name, and the names of tables that the other side is of."""
    for condition in _holding(conditions):
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
    for condition in _holding(conditions):
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            column, value = condition.left, condition.right
            if getattr(column, "name", None) == COLUMN and isinstance(value, BindParameter):
                yield _name(column.table), value


def _holding(conditions: Iterable[Any]) -> Iterator[Any]:
    """Give each condition, and instead of a conjunction each of its parts."""
    waiting = list(conditions)
    while waiting:
        condition = waiting.pop()
        if getattr(condition, "operator", None) is operators.and_:
            waiting += condition.get_children()
        else:
            yield condition


def _of_a_table(one: FromClause) -> bool:
    """Say whether this is a table or an alias of one, and not a subquery or given rows."""
    return isinstance(one, Table) or (isinstance(one, Alias) and isinstance(one.element, Table))


def _name(table: Any) -> str:
    return str(table.name)


def _value(bind: BindParameter[Any], params: Mapping[str, Any]) -> Any:
    return params.get(bind.key, bind.effective_value)
