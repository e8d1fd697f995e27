"""The one event of a batch, which stands for the first event of each of its messages.

One event for each message would cost a third of the message. The event of a batch has the id of its last
message as its ``id`` and its ``message_id``, and in ``data`` the batch's id and that of its first message.
Readers get an event for each message: its id is the message's, its position has the number of the
batch's. So a position may be between two messages of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Row, Uuid, column, func, select, table, true
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from mailbbgun.events.kinds import Kind
from mailbbgun.events.models import EVENTS
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.repo import of_test_messages, test_messages

_E, _M, _D = EVENTS.c, MESSAGES.c, DELIVERIES.c

# The rows of batches, whose room is above this one.
_COLUMNS: dict[str, TypeEngine[Any]] = {"id": Uuid(), "tenant_id": Uuid(), "last_id": Uuid(), "test": Boolean()}
_BATCHES = table("batches", *(column(name, kind) for name, kind in _COLUMNS.items()))

OF_BATCH: ColumnElement[bool] = _E.message_id.is_not(None) & (_E.id == _E.message_id)
"""The condition that a row is the event of a batch. It is never null, so it may be negated."""


class BatchPart(NamedTuple):
    """Which messages of a batch are asked for: those with ids between two, and in which order."""

    tests_only: bool
    after: UUID | None
    before: UUID | None
    limit: int
    newest_first: bool


class MessageFilters(Protocol):
    """What the messages must be like: ``filters.Filters``."""

    def of_messages(self, tenant_id: UUID, tests_only: bool) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions."""


def event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event of a batch, given its row in ``batches``."""
    data = {"batch_id": str(row["id"]), "first_id": str(row["first_id"]), "messages": row["messages"]}
    return {
        "id": row["last_id"],
        "tenant_id": row["tenant_id"],
        "message_id": row["last_id"],
        "delivery_id": None,
        "at": row["created_at"],
        "kind": Kind.ACCEPTED.value,
        "data": data,
    }


def messages(session: Session, row: Row[Any], wanted: MessageFilters, asked: BatchPart) -> Sequence[Any]:
    """Return the first events of messages of a batch, as ``reading.py`` has rows of events."""
    tenant_id, batch_id = row.tenant_id, UUID(row.data["batch_id"])
    ids = [_M.id >= UUID(row.data["first_id"]), _M.id <= row.id]
    if asked.after is not None:
        ids.append(_M.id > asked.after)
    if asked.before is not None:
        ids.append(_M.id < asked.before)
    statement = (
        select(
            *(_M.id, _M.tenant_id, _M.id.label("message_id"), _M.subject, _M.sender, _M.tags, _M.metadata, _M.size),
            *(_M.message_id.label("header"), _M.test, _M.created_at, _M.received),
        )
        .where(_M.tenant_id == tenant_id, *test_messages(asked.tests_only), _M.batch_id == batch_id, *ids)
        .where(*wanted.of_messages(tenant_id, asked.tests_only))
        .order_by(_M.id.desc() if asked.newest_first else _M.id)
        .limit(asked.limit)
    )
    found = session.execute(statement).all()
    its = (_D.tenant_id == tenant_id, *of_test_messages(_D.message_id, tenant_id, asked.tests_only))
    counts = select(_D.message_id, func.count()).where(*its, _D.message_id.in_([one.id for one in found]))
    recipients = {row[0]: row[1] for row in session.execute(counts.group_by(_D.message_id))} if found else {}
    return [_accepted(row, one, recipients.get(one.id, 0)) for one in found]


def _accepted(row: Row[Any], message: Any, recipients: int) -> "_Accepted":
    data = {"recipients": recipients, "size": message.size, "batch_id": row.data["batch_id"]}
    shared = message._mapping
    its = {name: shared[name] for name in _Accepted._fields if name in shared}
    rest = {"position": row.position, "at": message.created_at, "kind": row.kind, "delivery_id": None, "address": None}
    return _Accepted(**its, **rest, data=data)


class _Accepted(NamedTuple):
    """The first event of a message of a batch, as a row of the log."""

    id: UUID
    tenant_id: UUID
    position: int
    at: datetime
    kind: str
    message_id: UUID
    delivery_id: None
    data: Mapping[str, Any]
    address: None
    subject: str
    sender: str
    tags: list[str]
    metadata: Mapping[str, Any]
    header: str
    test: bool
    created_at: datetime
    received: bool


def batch_event_of(session: Session, tenant_id: UUID, message_id: UUID, tests_only: bool) -> UUID | None:
    """Return the id of the event of the batch that a message came with; None if it came alone."""
    its = (_M.tenant_id == tenant_id, _M.id == message_id, *test_messages(tests_only))
    batch_id = session.scalar(select(_M.batch_id).where(*its))
    if batch_id is None:
        return None
    tests = [_BATCHES.c.test == true()] if tests_only else []
    whose = (_BATCHES.c.tenant_id == tenant_id, _BATCHES.c.id == batch_id, *tests)
    last: UUID | None = session.scalar(select(_BATCHES.c.last_id).where(*whose))
    return last
