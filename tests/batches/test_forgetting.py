"""Batches go once their messages have gone, and not before."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import insert, select

from mailbbgun.batches import repo
from mailbbgun.batches.models import BATCHES
from mailbbgun.core.ids import DEFAULT_TENANT, first_id_at, new_id
from mailbbgun.messages.models import MESSAGES
from tests.accept.conftest import services as services  # the fixture
from tests.messages.test_counts import MESSAGE


def days_ago(days: float) -> UUID:
    first = first_id_at(datetime.now(UTC) - timedelta(days=days)).int
    return UUID(int=first | new_id().int & (1 << 62) - 1)


def add(services, days: float, *, message: bool) -> UUID:
    """Store a batch as it is so many days after it was accepted, with its message or after that was deleted."""
    batch, its, now = days_ago(days), days_ago(days), datetime.now(UTC)
    row = {"id": batch, "tenant_id": DEFAULT_TENANT, "created_at": now, "subject": "s", "messages": 1, "refused": 0}
    with services.db.write() as session:
        session.execute(insert(BATCHES).values(**row, first_id=its, last_id=its))
        if message:
            given = {"id": its, "created_at": now, "status": "PENDING", "batch_id": batch, "tenant_id": DEFAULT_TENANT}
            session.execute(insert(MESSAGES), [MESSAGE | given])
    return batch


def test_old_batches_without_messages_are_forgotten(services):
    gone, pending, young = (
        add(services, 40, message=False),
        add(services, 40, message=True),
        add(services, 20, message=False),
    )
    with services.db.write() as session:
        assert repo.forget_old(session, 30) == 1
    with services.db.read() as session:
        assert set(session.scalars(select(BATCHES.c.id))) == {pending, young}
    assert gone not in (pending, young)
