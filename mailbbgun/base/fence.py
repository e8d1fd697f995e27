"""The second fence between tenants: a session opened for one refuses every statement that does not name it.

The first are the queries themselves, which all ask for the tenant; this one finds the query in which that was forgotten, before it reaches the
database. Each SELECT, UPDATE and DELETE, however deep inside another, must compare ``tenant_id`` of each owned table it reads with the session's
tenant. Statements that serve all tenants at once (claims, results, sweeps) run in sessions for nobody, and name rows by id.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Delete, Engine, FromClause, Join, Select, Table, Update, event
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.selectable import Alias

from mailbbgun.base.errors import FencedQuery

TENANT = "mailbbgun_tenant"  # the execution option that names a session's tenant
COLUMN = "tenant_id"


def guard(engine: Engine) -> None:
    """Look at every statement of sessions that have a tenant."""

    @event.listens_for(engine, "before_execute")
    def _look(connection: Any, statement: Any, multiparams: Any, params: Any, options: Mapping[str, Any]) -> None:
        tenant = connection.get_execution_options().get(TENANT)
        if tenant is not None:
            check(statement, tenant, params or (multiparams[0] if multiparams else {}))


def check(statement: Any, tenant: UUID, params: Mapping[str, Any]) -> None:
    """Raise :class:`FencedQuery` if a part of a statement reads or changes an owned table without naming the tenant."""
    for part in visitors.iterate(statement):
        if isinstance(part, Select | Update | Delete):
            froms = list(_tables(part.get_final_froms() if isinstance(part, Select) else [part.table]))
            joined = [one.onclause for one in froms if isinstance(one, Join) and one.onclause is not None]
            named = {table for table, bind in _comparisons([*part._where_criteria, *joined]) if _value(bind, params) == tenant}
            for table in froms:
                if COLUMN in table.c and not isinstance(table, Join) and _name(table) not in named:
                    raise FencedQuery(f"a statement on {_name(table)} names no tenant")


def _tables(froms: Iterable[FromClause]) -> Iterator[FromClause]:
    """Give tables, aliases of tables, and the joins they stand in; what is inside a subquery is a part of its own."""
    waiting = list(froms)
    while waiting:
        one = waiting.pop()
        if isinstance(one, Join):
            waiting += [one.left, one.right]
            yield one
        elif isinstance(one, Table) or (isinstance(one, Alias) and isinstance(one.element, Table)):
            yield one


def _comparisons(conditions: Iterable[Any]) -> Iterator[tuple[str, BindParameter[Any]]]:
    """Give each comparison of a table's tenant with a value, of those that must hold: by the table's name, which is unique in its FROM."""
    waiting = list(conditions)
    while waiting:
        condition = waiting.pop()
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            column, value = condition.left, condition.right
            if getattr(column, "name", None) == COLUMN and isinstance(value, BindParameter):
                yield _name(column.table), value
        elif getattr(condition, "operator", None) is operators.and_:
            waiting += condition.get_children()


def _name(table: Any) -> str:
    return str(table.name)


def _value(bind: BindParameter[Any], params: Mapping[str, Any]) -> Any:
    return params.get(bind.key, bind.effective_value)
