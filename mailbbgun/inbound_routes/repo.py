"""Queries on inbound routes. The caller commits."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, true, update
from sqlalchemy.orm import Session

from mailbbgun.inbound_routes.models import INBOUND_ROUTES
from mailbbgun.inbound_routes.plan import RouteRule

_R = INBOUND_ROUTES.c
FoundRoute = Row[Any]


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[FoundRoute], int, UUID | None]:
    """Return a page of a tenant's routes, newest first; the number of all; the last id if more follow."""
    statement = select(INBOUND_ROUTES).where(_R.tenant_id == tenant_id).order_by(_R.id.desc())
    if after is not None:
        statement = statement.where(_R.id < after)
    found = session.execute(statement.offset(offset).limit(limit + 1)).all()
    shown = found[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many routes a tenant has."""
    return session.scalar(select(func.count()).select_from(INBOUND_ROUTES).where(_R.tenant_id == tenant_id)) or 0


def route(session: Session, tenant_id: UUID, identifier: UUID) -> FoundRoute | None:
    """Return a route of a tenant; None if it has none with this id."""
    its = (_R.tenant_id == tenant_id, _R.id == identifier)
    return session.execute(select(INBOUND_ROUTES).where(*its)).one_or_none()


def of_any_tenant(session: Session, identifier: UUID) -> FoundRoute | None:
    """Return a route by its id, for workers, which serve all tenants."""
    return session.execute(select(INBOUND_ROUTES).where(_R.id == identifier)).one_or_none()


def rules(session: Session, tenant_id: UUID) -> list[RouteRule]:
    """Return a tenant's routes that are enabled, in the order in which they are tried."""
    columns = (_R.id, _R.name, _R.matching, _R.actions, _R.stop)
    its = select(*columns).where(_R.tenant_id == tenant_id, _R.enabled == true())
    rows = session.execute(its.order_by(_R.priority, _R.id))
    return [RouteRule.of(*one, stop=stop) for *one, stop in rows]


def add(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a route."""
    session.execute(insert(INBOUND_ROUTES).values(values))


def change(session: Session, tenant_id: UUID, identifier: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a route."""
    its = (_R.tenant_id == tenant_id, _R.id == identifier)
    session.execute(update(INBOUND_ROUTES).where(*its).values(values))


def remove(session: Session, tenant_id: UUID, identifier: UUID) -> bool:
    """Delete a route; return whether it existed."""
    its = (_R.tenant_id == tenant_id, _R.id == identifier)
    return session.scalar(delete(INBOUND_ROUTES).where(*its).returning(_R.id)) is not None
