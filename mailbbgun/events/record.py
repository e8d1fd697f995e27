"""The only writer of statuses and events. Every function takes a session and never commits; log lines follow the commit."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, String, Table, Uuid, and_, case, exists, insert, literal, or_, select, update
from sqlalchemy import event as sql_event
from sqlalchemy.orm import Session
from sqlalchemy.types import Float, TypeEngine

from mailbbgun.base.db import db_now, id_rows, ids, recordset, rows
from mailbbgun.base.ids import new_id
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.events.models import Event
from mailbbgun.messages.models import DELIVERIES, MESSAGES, TAGS, Delivery, Message
from mailbbgun.messages.status import CANCELLED, ERROR, PENDING, PRECEDENCE

log = logging.getLogger("mailbbgun.events")

_EVENTS = cast(Table, Event.__table__)
_IDLE = and_(Delivery.status == PENDING, Delivery.lease_owner.is_(None))


@dataclass(frozen=True, slots=True)
class Result:
    """How one claim of a delivery ended. Valid only while the claim (id, attempt, owner) still stands."""

    delivery_id: UUID
    message_id: UUID
    attempt: int
    kind: Kind | None  # None: nothing worth telling
    status: str  # PENDING, DELIVERED or ERROR
    reason: Reason | None = None
    code: int | None = None  # the server's three digits; None when these are our own words
    reply: str | None = None
    wait: float = 0.0  # seconds until the next try is due
    hinted: int = 0  # seconds of the delay queue that carries a hint for that moment; 0: none does
    counted: bool = False  # a try ended: walks RETRY_DELAYS on
    unknown: bool = False
    crashed: bool = False
    released: bool = False  # given back with nothing tried: the last reply is kept
    data: Mapping[str, Any] | None = None  # what else the event tells: phase, host, enhanced code…


def accepted(session: Session, message: Mapping[str, Any], deliveries: Sequence[Mapping[str, Any]]) -> None:
    """Insert a message, its deliveries, due now, and its first event. Keys are columns' names, but for status and times."""
    session.execute(insert(MESSAGES), [{**message, "status": PENDING}])
    session.execute(insert(DELIVERIES).values(next_attempt_at=db_now()), [{**one, "status": PENDING} for one in deliveries])
    if message["tags"]:
        session.execute(insert(TAGS), [{"tag": tag, "message_id": message["id"]} for tag in message["tags"]])
    data = {"recipients": len(deliveries), "size": message["size"]}
    _append(session, [_event(message["id"], None, Kind.ACCEPTED, data)])


_COLUMNS: dict[str, TypeEngine[Any]] = {
    "id": Uuid(),
    "attempt": Integer(),
    "status": String(),
    "reason": String(),
    "code": Integer(),
    "reply": String(),
    "wait": Float(),
    "hinted": Integer(),
    "counted": Integer(),
    "unknown": Integer(),
    "crashed": Integer(),
    "released": Integer(),
}


def results(session: Session, owner: UUID, ended: Sequence[Result]) -> list[Result]:
    """Write how claims of ``owner`` ended and return those that still stood; the others were fenced and change nothing."""
    if not ended:
        return []
    by_id = {result.delivery_id: result for result in ended}
    given = recordset(session.get_bind().dialect.name, "results", _COLUMNS).c
    ours, pending = DELIVERIES.c, given.status == PENDING
    statement = (
        update(DELIVERIES)
        .where(ours.id == given.id, ours.attempt == given.attempt, ours.lease_owner == owner, ours.status == PENDING)
        .values(
            status=given.status,
            reason=given.reason,
            reply_code=case((given.released == 1, ours.reply_code), else_=given.code),
            reply=case((given.released == 1, ours.reply), else_=given.reply),
            tries=ours.tries + given.counted,
            unknowns=ours.unknowns + given.unknown,
            crashes=ours.crashes + given.crashed,
            next_attempt_at=case((pending, db_now(given.wait))),
            published_at=case((given.hinted > 0, db_now())),
            lease_owner=None,
            lease_until=None,
            finished_at=case((~pending, db_now())),
        )
        .returning(ours.id)
    )
    records = [_record(result) for result in ended]
    standing = [by_id[identifier] for identifier in session.execute(statement, {"results": rows(records)}).scalars()]
    _append(session, [_told(result, result.kind) for result in standing if result.kind])
    _sum_up(session, [result.message_id for result in standing if result.status != PENDING])
    return standing


def cancelled(session: Session, message_id: UUID) -> int:
    """Cancel the deliveries of a message that are pending and in no worker's hands; return how many."""
    ended = {"status": CANCELLED, "next_attempt_at": None, "published_at": None, "finished_at": db_now()}
    return _by_hand(session, message_id, _IDLE, ended, Kind.CANCELLED)


def retried(session: Session, message_id: UUID) -> int:
    """Make due now what has failed, with a fresh schedule, and what waits for its next try, on the schedule it is on; return how many."""
    failed = Delivery.status == ERROR
    due = {"status": PENDING, "reason": None, "next_attempt_at": db_now(), "published_at": None, "finished_at": None}
    fresh = {column.key: case((failed, 0), else_=column) for column in (Delivery.tries, Delivery.crashes, Delivery.unknowns)}
    return _by_hand(session, message_id, or_(failed, _IDLE & (Delivery.next_attempt_at > db_now())), due | fresh, Kind.RETRIED)


def _by_hand(session: Session, message_id: UUID, which: ColumnElement[bool], values: Mapping[str, Any], kind: Kind) -> int:
    # In id order, as claims lock.
    locked = select(Delivery.id).where(Delivery.message_id == message_id, which).order_by(Delivery.id).with_for_update()
    chosen = locked.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = update(DELIVERIES).where(DELIVERIES.c.id.in_(select(chosen.c.id))).values(**values).returning(DELIVERIES.c.id)
    changed = session.execute(statement).scalars().all()
    _append(session, [_event(message_id, identifier, kind, {}) for identifier in changed])
    if changed:
        _sum_up(session, [message_id])
    return len(changed)


def _sum_up(session: Session, message_ids: Sequence[UUID]) -> None:
    """Bring messages' statuses in line with their deliveries' (see ``status.sum_of``)."""
    if not message_ids:
        return
    wanted = sorted(set(message_ids))
    given = ids(session.get_bind().dialect.name, "messages").c
    # The lock first, in id order: of two workers that end two deliveries of one message, the second must see what the first wrote.
    # FOR NO KEY UPDATE: the events that both have inserted hold the message by its key.
    lock = select(Message.id).where(Message.id.in_(select(given.id))).order_by(Message.id).with_for_update(key_share=True)
    session.execute(lock, {"messages": id_rows(wanted)}).all()

    ours = MESSAGES.c

    def any_is(status: str) -> Any:
        return exists().where(DELIVERIES.c.message_id == ours.id, DELIVERIES.c.status == status)

    total = case(*((any_is(status), literal(status)) for status in PRECEDENCE))
    statement = (
        update(MESSAGES)
        .where(ours.id.in_(select(given.id)), ours.status != total)
        .values(status=total)
    )
    session.execute(statement, {"messages": id_rows(wanted)})


def _record(result: Result) -> dict[str, Any]:
    return {
        "id": result.delivery_id.hex,
        "attempt": result.attempt,
        "status": result.status,
        "reason": result.reason,
        "code": result.code,
        "reply": result.reply,
        "wait": result.wait,
        "hinted": result.hinted,
        "counted": int(result.counted),
        "unknown": int(result.unknown),
        "crashed": int(result.crashed),
        "released": int(result.released),
    }


def _told(result: Result, kind: Kind) -> dict[str, Any]:
    data = {"claim": result.attempt, "code": result.code, "reply": result.reply, "reason": result.reason, **(result.data or {})}
    if result.status == PENDING:
        data["retry_in"] = round(result.wait)
    return _event(result.message_id, result.delivery_id, kind, data)


def _event(message_id: UUID, delivery_id: UUID | None, kind: Kind, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id(),
        "message_id": message_id,
        "delivery_id": delivery_id,
        "at": datetime.now(UTC),
        "kind": kind.value,
        "data": {key: value for key, value in data.items() if value is not None},
    }


def _append(session: Session, events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        return
    session.execute(insert(_EVENTS), list(events))
    if log.isEnabledFor(logging.INFO):
        sql_event.listen(session, "after_commit", lambda _: _print(events), once=True)


def _print(events: Sequence[Mapping[str, Any]]) -> None:
    for event in events:
        log.info(event["kind"], extra={"message_id": event["message_id"], "delivery_id": event["delivery_id"], **event["data"]})
