"""Moves the next attempt of pending deliveries, and changes what a pending message says besides its mail."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.db import db_now
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import DELIVERIES, MESSAGES, TAGS
from mailbbgun.messages.repo import of_test_messages, test_messages
from mailbbgun.messages.status import PENDING

_D, _M = DELIVERIES.c, MESSAGES.c


def move(
    session: Session, tenant_id: UUID, message_id: UUID, send_at: datetime | None, *, tests_only: bool = False
) -> Sequence[str]:
    """Make the idle deliveries of a message due at ``send_at`` (None: now); return their recipients' addresses.

    Deliveries that a worker has claimed, or that are held, are not moved. The caller commits.
    """
    due = {"next_attempt_at": db_now() if send_at is None else send_at, "scheduled": send_at is not None}
    return _change_idle(session, tenant_id, message_id, due, tests_only)


def change_lane(
    session: Session, tenant_id: UUID, message_id: UUID, lane: str, *, tests_only: bool = False
) -> Sequence[str]:
    """Give the idle deliveries of a message another lane; return their recipients' addresses.

    They need a new hint. The caller commits.
    """
    return _change_idle(session, tenant_id, message_id, {"lane": lane}, tests_only)


def _change_idle(
    session: Session, tenant_id: UUID, message_id: UUID, values: Mapping[str, Any], tests_only: bool
) -> Sequence[str]:
    tests = of_test_messages(_D.message_id, tenant_id, tests_only)
    its = (_D.tenant_id == tenant_id, _D.message_id == message_id, *tests)
    idle = (_D.status == PENDING, _D.lease_owner.is_(None), _D.next_attempt_at.is_not(None))
    # Lock in order of id, as claims do, so that the two cannot deadlock.
    locked = select(_D.id).where(*its, *idle).order_by(_D.id).with_for_update().cte("chosen")
    chosen = select(locked.prefix_with("MATERIALIZED", dialect="postgresql").c.id)
    statement = update(DELIVERIES).where(_D.id.in_(chosen), _D.tenant_id == tenant_id, *tests)
    return session.scalars(statement.values(published_at=None, **values).returning(_D.address)).all()


def change(
    session: Session, tenant_id: UUID, message_id: UUID, values: Mapping[str, Any], *, tests_only: bool = False
) -> bool:
    """Change columns of a pending message, and its tags; return False if it is not pending. The caller commits.

    A change of ``send_at``, ``useful_until`` or ``priority`` is an event. Raises :class:`InvalidInput`
    if the message would be useful only until before it is sent.
    """
    its = (_M.tenant_id == tenant_id, _M.id == message_id, *test_messages(tests_only))
    statement = update(MESSAGES).where(*its, _M.status == PENDING)
    changed = session.execute(statement.values(values).returning(_M.key_id, _M.send_at, _M.useful_until)).one_or_none()
    if changed is None:
        return False
    if changed.send_at and changed.useful_until and changed.useful_until <= changed.send_at:
        why = f"Is not after send_at, {rfc3339(changed.send_at)}, so the message would never be sent."
        raise InvalidInput("Some fields are not valid.", fields={"useful_until": [why]})
    if "tags" in values:
        old = of_test_messages(TAGS.c.message_id, tenant_id, tests_only)
        session.execute(delete(TAGS).where(TAGS.c.tenant_id == tenant_id, TAGS.c.message_id == message_id, *old))
        rows = [{"tag": tag, "message_id": message_id, "tenant_id": tenant_id} for tag in values["tags"]]
        if rows:
            session.execute(insert(TAGS), rows)
    told = {name: _told(values[name]) for name in ("send_at", "useful_until", "priority") if name in values}
    if told:
        event = log.event(tenant_id, message_id, None, Kind.RESCHEDULED, {})
        event["data"] = told  # also those that are null now
        log.append(session, [event])
        log.log_after_commit(session, [event], [changed.key_id])
    return True


def _told(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
