"""Queries on the endpoints of a tenant, on what was sent to them, and on replays."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from mailbbgun.webhooks.models import ATTEMPTS, ENDPOINTS, REPLAYS, RETRIES

_E, _A, _P, _R = ENDPOINTS.c, ATTEMPTS.c, REPLAYS.c, RETRIES.c
Found = Row[Any]


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[Found], int, UUID | None]:
    """Return a page of a tenant's endpoints, newest first; the number of all; the last id if more follow."""
    statement = select(ENDPOINTS).where(_E.tenant_id == tenant_id).order_by(_E.id.desc())
    if after is not None:
        statement = statement.where(_E.id < after)
    found = session.execute(statement.offset(offset).limit(limit + 1)).all()
    shown = found[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many endpoints a tenant has."""
    return session.scalar(select(func.count()).select_from(ENDPOINTS).where(_E.tenant_id == tenant_id)) or 0


def endpoint(session: Session, tenant_id: UUID, identifier: UUID) -> Found | None:
    """Return an endpoint of a tenant; None if it has none with this id."""
    its = (_E.tenant_id == tenant_id, _E.id == identifier)
    return session.execute(select(ENDPOINTS).where(*its)).one_or_none()


def add(session: Session, values: Mapping[str, Any]) -> None:
    """Insert an endpoint."""
    session.execute(insert(ENDPOINTS).values(values))


def change(session: Session, tenant_id: UUID, identifier: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of an endpoint."""
    its = (_E.tenant_id == tenant_id, _E.id == identifier)
    session.execute(update(ENDPOINTS).where(*its).values(values))


def remove(session: Session, tenant_id: UUID, identifier: UUID) -> None:
    """Delete an endpoint and all about it."""
    for table in (ATTEMPTS, RETRIES, REPLAYS):
        its = (table.c.tenant_id == tenant_id, table.c.endpoint_id == identifier)
        session.execute(delete(table).where(*its))
    session.execute(delete(ENDPOINTS).where(_E.tenant_id == tenant_id, _E.id == identifier))


def attempts(
    session: Session, tenant_id: UUID, identifier: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[Found], int, UUID | None]:
    """Return a page of the kept requests of an endpoint, as :func:`page` does."""
    its = (_A.tenant_id == tenant_id, _A.endpoint_id == identifier)
    statement = select(ATTEMPTS).where(*its).order_by(_A.id.desc())
    if after is not None:
        statement = statement.where(_A.id < after)
    found = session.execute(statement.offset(offset).limit(limit + 1)).all()
    total = session.scalar(select(func.count()).select_from(ATTEMPTS).where(*its)) or 0
    shown = found[:limit]
    return shown, total, shown[-1].id if shown and len(found) > limit else None


def add_attempt(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a request."""
    session.execute(insert(ATTEMPTS).values(values))


def remove_retry(session: Session, tenant_id: UUID, identifier: UUID) -> None:
    """Delete a retry, because the event was acknowledged."""
    session.execute(delete(RETRIES).where(_R.tenant_id == tenant_id, _R.id == identifier))


def retries(session: Session, tenant_id: UUID, endpoint_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many events of each endpoint wait for a retry of their own."""
    its = (_R.tenant_id == tenant_id, _R.endpoint_id.in_(endpoint_ids))
    found = session.execute(select(_R.endpoint_id, func.count()).where(*its).group_by(_R.endpoint_id))
    return {row[0]: row[1] for row in found}


def replays(session: Session, tenant_id: UUID, identifier: UUID) -> Sequence[Found]:
    """Return the replays of an endpoint that are kept, newest first."""
    its = (_P.tenant_id == tenant_id, _P.endpoint_id == identifier)
    return session.execute(select(REPLAYS).where(*its).order_by(_P.id.desc()).limit(100)).all()


def add_replay(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a replay."""
    session.execute(insert(REPLAYS).values(values))
