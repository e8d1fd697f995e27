"""Queries over events."""

from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from mailbbgun.events.models import Event
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.repo import of_test_messages


def page(
    session: Session,
    tenant_id: UUID,
    message_id: UUID,
    *,
    limit: int,
    offset: int,
    after: UUID | None,
    tests_only: bool = False,
) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of a message's events, newest first, how many there are in all, and the last id if
    there are more.
    """
    tests = of_test_messages(Event.message_id, tenant_id, tests_only)
    of_message = and_(Event.tenant_id == tenant_id, Event.message_id == message_id, *tests)
    its = and_(Delivery.tenant_id == tenant_id, *of_test_messages(Delivery.message_id, tenant_id, tests_only))
    count = session.scalar(select(func.count()).select_from(Event).where(of_message)) or 0
    if not limit:
        return [], count, None
    older = [] if after is None else [Event.id < after]
    statement = (
        select(Event.id, Event.at, Event.kind, Event.data, Delivery.address)
        .outerjoin(Delivery, and_(Delivery.id == Event.delivery_id, its))
        .where(of_message, *older)
        .order_by(Event.id.desc())
        .offset(offset)
        .limit(limit + 1)
    )
    found = [dict(row) for row in session.execute(statement).mappings()]
    shown = found[:limit]
    return shown, count, shown[-1]["id"] if len(found) > limit else None
