"""Reads the log of a tenant in its one order: oldest first from a place on, or newest first.

A reader that keeps the position of the last event it was given meets each event once, however many
processes write. Events that are not settled yet (``storage/settled.py``) are not shown.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, Select, Uuid, and_, or_, select, tuple_
from sqlalchemy.orm import Session

from mailbbgun.core.clock import rfc3339
from mailbbgun.database.db import dialect_of
from mailbbgun.database.sql import recordset, rows
from mailbbgun.events import batched
from mailbbgun.events.cursors import START as START
from mailbbgun.events.cursors import Position as Position
from mailbbgun.events.filters import NO_FILTERS as NO_FILTERS
from mailbbgun.events.filters import EventFilters as EventFilters
from mailbbgun.events.kinds import Kind, ends
from mailbbgun.events.models import EVENTS
from mailbbgun.events.storage.settled import settled
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.repo import of_test_messages, test_messages

_E, _M, _D = EVENTS.c, MESSAGES.c, DELIVERIES.c
_PLACE = tuple_(_E.position, _E.id)


class LoggedEvent(NamedTuple):
    """An event, with what readers need of its message. That is None or empty once the message is deleted."""

    id: UUID
    position: Position
    tenant_id: UUID
    at: datetime
    kind: Kind
    final: bool
    message_id: UUID | None
    delivery_id: UUID | None
    data: dict[str, Any]
    recipient: str | None
    subject: str | None
    sender: str | None
    tags: list[str]
    metadata: dict[str, Any]
    mime_message_id: str | None
    account: str | None
    test: bool
    accepted_at: datetime | None
    received: bool = False


def read(
    session: Session,
    tenant_id: UUID,
    after: Position,
    limit: int,
    *,
    filters: EventFilters = NO_FILTERS,
    tests_only: bool = False,
    until: Position | None = None,
) -> list[LoggedEvent]:
    """Return up to ``limit`` settled events after a place, oldest first.

    Fewer than ``limit`` are returned only if there are no more. ``until``: the last place to read.
    ``tests_only``: only events of test messages.
    """
    more: tuple[ColumnElement[bool], ...] = ()
    if until is not None:
        # The event of a batch has the id of its last message, so it stands behind the places of the others.
        here = tuple_(until.number, until.event_id) >= _PLACE
        more = (_E.position <= until.number, or_(here, batched.OF_BATCH))
    found: list[LoggedEvent] = []
    while len(found) < limit:
        wanted = limit - len(found)
        conditions = (tuple_(after.number, after.event_id) < _PLACE, *more)
        page = _page(session, tenant_id, conditions, filters, tests_only)
        rows_of = session.execute(page.order_by(_E.position, _E.id).limit(wanted)).all()
        for row in rows_of:
            first = after.event_id if after.number == row.position else None
            asked = batched.BatchPart(tests_only, first, None, limit - len(found), newest_first=False)
            events = _events(session, row, filters, asked)
            found += [one for one in events if until is None or one.position <= until]
            if len(found) == limit:
                break
        if len(rows_of) < wanted:
            break
        after = Position(rows_of[-1].position, rows_of[-1].id)
    return found


def read_back(
    session: Session,
    tenant_id: UUID,
    before: Position | None,
    limit: int,
    *,
    filters: EventFilters = NO_FILTERS,
    tests_only: bool = False,
) -> list[LoggedEvent]:
    """Return up to ``limit`` settled events before a place, or the last ones, newest first."""
    found: list[LoggedEvent] = []
    conditions: tuple[ColumnElement[bool], ...] = ()
    if before is not None:
        # The event of a batch has the id of its last message, so it stands after the places of the others.
        here = tuple_(before.number, before.event_id) > _PLACE
        conditions = (_E.position <= before.number, or_(here, batched.OF_BATCH))
    while len(found) < limit:
        wanted = limit - len(found)
        page = _page(session, tenant_id, conditions, filters, tests_only)
        rows_of = session.execute(page.order_by(_E.position.desc(), _E.id.desc()).limit(wanted)).all()
        for row in rows_of:
            last = before.event_id if before is not None and before.number == row.position else None
            asked = batched.BatchPart(tests_only, None, last, limit - len(found), newest_first=True)
            found += _events(session, row, filters, asked)
            if len(found) == limit:
                break
        if len(rows_of) < wanted:
            break
        conditions = (tuple_(rows_of[-1].position, rows_of[-1].id) > _PLACE,)
    return found


def end(session: Session, tenant_id: UUID, *, tests_only: bool = False) -> Position:
    """Return the place of the last settled event: where a reader begins that wants only what comes."""
    tests = of_test_messages(_E.message_id, tenant_id, tests_only)
    its = select(_E.position, _E.id).where(_E.tenant_id == tenant_id, settled(dialect_of(session)), *tests)
    last = session.execute(its.order_by(_E.position.desc(), _E.id.desc()).limit(1)).one_or_none()
    return START if last is None else Position(last.position, last.id)


def place_after(session: Session, tenant_id: UUID, after: Position, number: int) -> Position | None:
    """Return the place so many events after another; None if there are fewer. It only looks into the index."""
    later = (_E.tenant_id == tenant_id, tuple_(after.number, after.event_id) < _PLACE, settled(dialect_of(session)))
    its = select(_E.position, _E.id).where(*later).order_by(_E.position, _E.id).offset(number - 1).limit(1)
    found = session.execute(its).one_or_none()
    return None if found is None else Position(found.position, found.id)


def tenants_with_events_after(session: Session, places: Mapping[UUID, Position]) -> list[UUID]:
    """Return the tenants that have settled events after these places.

    It is one statement, which looks into the index once for each tenant.
    """
    if not places:
        return []
    dialect = dialect_of(session)
    given = recordset(dialect, "places", {"tenant": Uuid(), "number": BigInteger(), "event": Uuid()}).c
    later = (_E.tenant_id == given.tenant, tuple_(given.number, given.event) < _PLACE, settled(dialect))
    statement = select(given.tenant).where(select(_E.id).where(*later).exists())
    records = [{"tenant": one.hex, "number": its.number, "event": its.event_id.hex} for one, its in places.items()]
    return list(session.scalars(statement, {"places": rows(records)}))


def shown(event: LoggedEvent) -> dict[str, Any]:
    """Return an event as all who read it get it in JSON: by HTTP, by webhooks, in exports."""
    return {
        "id": str(event.id),
        "position": str(event.position),
        "kind": event.kind.value,
        "at": rfc3339(event.at),
        "final": event.final,
        "message_id": _text(event.message_id),
        "delivery_id": _text(event.delivery_id),
        "recipient": event.recipient,
        "from": event.sender,
        "subject": event.subject,
        "message_id_header": event.mime_message_id,
        "tags": event.tags,
        "metadata": event.metadata,
        "account": event.account,
        "test": event.test,
        "accepted_at": rfc3339(event.accepted_at) if event.accepted_at else None,
        "data": event.data,
    }


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)


def _page(
    session: Session,
    tenant_id: UUID,
    conditions: Sequence[ColumnElement[bool]],
    filters: EventFilters,
    tests_only: bool,
) -> Select[Any]:
    delivery = (_D.tenant_id == tenant_id, *of_test_messages(_D.message_id, tenant_id, tests_only))
    message = (_M.tenant_id == tenant_id, *test_messages(tests_only))
    return (
        select(
            *(_E.id, _E.tenant_id, _E.position, _E.at, _E.kind, _E.message_id, _E.delivery_id, _E.data),
            _D.address,
            *(_M.subject, _M.sender, _M.tags, _M.metadata, _M.message_id.label("header"), _M.test, _M.created_at),
            _M.received,
        )
        .select_from(EVENTS)
        .outerjoin(DELIVERIES, and_(_D.id == _E.delivery_id, *delivery))
        .outerjoin(MESSAGES, and_(_M.id == _E.message_id, *message))
        .where(_E.tenant_id == tenant_id, settled(dialect_of(session)), *conditions)
        .where(*of_test_messages(_E.message_id, tenant_id, tests_only))
        .where(*filters.of_events(session, tenant_id, tests_only))
    )


def _events(session: Session, row: Row[Any], filters: EventFilters, asked: batched.BatchPart) -> list[LoggedEvent]:
    """Return the events of a row: itself, or for a batch those of the messages that are asked for."""
    if row.id != row.message_id:
        return [_event(row)]
    return [_event(one) for one in batched.messages(session, row, filters, asked)]


def _event(row: Any) -> LoggedEvent:
    kind, data = Kind(row.kind), row.data
    return LoggedEvent(
        id=row.id,
        position=Position(row.position, row.id),
        tenant_id=row.tenant_id,
        at=row.at,
        kind=kind,
        final=ends(kind, data),
        message_id=row.message_id,
        delivery_id=row.delivery_id,
        data=data,
        recipient=row.address,
        subject=row.subject,
        sender=row.sender,
        tags=row.tags or [],
        metadata=row.metadata or {},
        mime_message_id=row.header,
        account=data.get("account"),
        test=bool(row.test),
        accepted_at=row.created_at,
        received=bool(row.received),
    )
