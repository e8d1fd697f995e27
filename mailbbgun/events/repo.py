"""Queries over events."""

from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from mailbbgun.events.kinds import Kind
from mailbbgun.events.models import Event
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.repo import of_test_messages, test_messages


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

    The first event of a message that came with a batch is not stored, since it would cost a third of the
    message. It is made here of the message's row; its id is the message's own.
    """
    tests = of_test_messages(Event.message_id, tenant_id, tests_only)
    its_own = Event.id != message_id  # not that of its batch (``batched.py``)
    of_message = and_(Event.tenant_id == tenant_id, Event.message_id == message_id, its_own, *tests)
    its = and_(Delivery.tenant_id == tenant_id, *of_test_messages(Delivery.message_id, tenant_id, tests_only))
    stored = session.scalar(select(func.count()).select_from(Event).where(of_message)) or 0
    first = _accepted_with_a_batch(session, tenant_id, message_id, tests_only)
    count = stored + (first is not None)
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
    if first and after != first["id"] and len(found) <= limit:
        its_place = session.scalar(select(func.count()).select_from(Event).where(of_message, *older)) or 0
        found += [first] if offset <= its_place else []
    shown = found[:limit]
    return shown, count, shown[-1]["id"] if len(found) > limit else None


def _accepted_with_a_batch(
    session: Session, tenant_id: UUID, message_id: UUID, tests_only: bool
) -> dict[str, Any] | None:
    """Return the first event of a message that came with a batch; None for any other message."""
    whose = (Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    message = session.execute(
        select(Message.created_at, Message.size).where(*whose, Message.batch_id.is_not(None))
    ).one_or_none()
    if message is None:
        return None
    its = (Delivery.tenant_id == tenant_id, Delivery.message_id == message_id)
    tests = of_test_messages(Delivery.message_id, tenant_id, tests_only)
    recipients = session.scalar(select(func.count()).select_from(Delivery).where(*its, *tests))
    data = {"recipients": recipients, "size": message.size}
    return {"id": message_id, "at": message.created_at, "kind": Kind.ACCEPTED.value, "data": data, "address": None}
