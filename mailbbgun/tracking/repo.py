"""Queries on tracked messages. They take a session and never commit."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.repo import of_test_messages
from mailbbgun.tracking.models import ADDRESSES, COUNTS, TrackedAddress, TrackedCount

#: Addresses that are forgotten in one transaction.
FORGOTTEN = 1000
#: Addresses that one answer lists, at most.
LISTED = 1000
_DAY = 86_400


class Tracked(NamedTuple):
    """Whose a tracked message is, and its delivery if it has only one: several recipients share their links."""

    tenant_id: UUID
    test: bool
    delivery_id: UUID | None


def find(session: Session, message_id: UUID) -> Tracked | None:
    """Return whose a message is, of any tenant; None if retention has deleted it. The session has no tenant."""
    message = session.execute(select(Message.tenant_id, Message.test).where(Message.id == message_id)).one_or_none()
    if message is None:
        return None
    its = select(Delivery.id).where(Delivery.tenant_id == message.tenant_id, Delivery.message_id == message_id)
    deliveries = session.scalars(its.limit(2)).all()
    return Tracked(message.tenant_id, message.test, deliveries[0] if len(deliveries) == 1 else None)


def counted(session: Session, tenant_id: UUID, message_id: UUID, kind: str, visitor: str) -> int:
    """Return how many events of a kind by such a visitor a message has."""
    its = (TrackedCount.tenant_id == tenant_id, TrackedCount.message_id == message_id)
    found = select(TrackedCount.n).where(*its, TrackedCount.kind == kind, TrackedCount.visitor == visitor)
    return session.scalar(found) or 0


def count(session: Session, tenant_id: UUID, message_id: UUID, kind: str, visitor: str) -> int:
    """Count one more event; return how many there are with it. The row is locked until the commit."""
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    new = dialect.insert(COUNTS).values(tenant_id=tenant_id, message_id=message_id, kind=kind, visitor=visitor, n=1)
    counting = new.on_conflict_do_update(
        index_elements=["message_id", "kind", "visitor"], set_={"n": COUNTS.c.n + 1}
    ).returning(COUNTS.c.n)
    return int(session.execute(counting).scalar_one())


def keep_address(session: Session, event: dict[str, Any], address: str) -> None:
    """Keep the address behind an event."""
    its = {name: event[name] for name in ("tenant_id", "message_id", "at", "kind")}
    session.execute(insert(ADDRESSES).values(event_id=event["id"], address=address, **its))


def counts(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool) -> Sequence[TrackedCount]:
    """Return the counts of a message."""
    its = (TrackedCount.tenant_id == tenant_id, TrackedCount.message_id == message_id)
    tests = of_test_messages(TrackedCount.message_id, tenant_id, tests_only)
    return session.scalars(select(TrackedCount).where(*its, *tests)).all()


def addresses(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool) -> Sequence[TrackedAddress]:
    """Return the addresses behind a message's events, newest first, at most :data:`LISTED`."""
    its = (TrackedAddress.tenant_id == tenant_id, TrackedAddress.message_id == message_id)
    tests = of_test_messages(TrackedAddress.message_id, tenant_id, tests_only)
    found = select(TrackedAddress).where(*its, *tests).order_by(TrackedAddress.at.desc()).limit(LISTED)
    return session.scalars(found).all()


def forget_addresses(session: Session, days: int) -> int:
    """Delete addresses of all tenants that are older than so many days, the oldest first; return how many."""
    old = select(ADDRESSES.c.event_id).where(ADDRESSES.c.at < db_now(-days * _DAY))
    chosen = old.order_by(ADDRESSES.c.at).limit(FORGOTTEN)
    deleting = delete(ADDRESSES).where(ADDRESSES.c.event_id.in_(chosen)).returning(ADDRESSES.c.event_id)
    return len(session.execute(deleting).all())
