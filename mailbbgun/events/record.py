"""The only writer of statuses and events. Log lines follow the commit.

Every function takes a session and never commits, but for ``commit_accepted``, which does without a session.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    String,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import Float, TypeEngine

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database, after_commit, db_now, dialect_of
from mailbbgun.database.sql import among, for_each, id_rows, ids, recordset, rows, unguessed
from mailbbgun.events.accepted import EVENTS, New, appended, steps
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.models import DELIVERIES, MESSAGES, Delivery
from mailbbgun.messages.repo import of_test_messages
from mailbbgun.messages.status import CANCELLED, ERROR, PENDING, PRECEDENCE
from mailbbgun.tenants.models import ACTIVE, TENANTS
from mailbbgun.tenants.repo import suspended

log = logging.getLogger("mailbbgun.events")

_IDLE = and_(Delivery.status == PENDING, Delivery.lease_owner.is_(None))


@dataclass(frozen=True, slots=True)
class Result:
    """How one claim of a delivery ended. Valid only while the claim (id, attempt, owner) still stands."""

    delivery_id: UUID
    message_id: UUID
    tenant_id: UUID
    attempt: int
    kind: Kind | None  # None: nothing worth telling
    status: str  # PENDING, DELIVERED or ERROR
    reason: Reason | None = None
    code: int | None = None  # the server's three digits; None when these are our own words
    reply: str | None = None
    wait: float = 0.0  # seconds until the next try is due
    hinted: int = 0  # seconds of the delay queue that carries a hint for that moment; 0: none does
    counted: bool = False  # walks RETRY_DELAYS on
    attempted: bool = False  # it was tried to hand it to a server: adds to ``attempts``
    unknown: bool = False
    crashed: bool = False
    released: bool = False  # given back with nothing tried: the last reply is kept
    complained: bool = False  # the recipient calls spam what was just delivered
    data: Mapping[str, Any] | None = None  # what else the event tells: phase, host, enhanced code…
    key_id: UUID | None = None  # by which the message came; for the log


def accepted(session: Session, new: New) -> None:
    """Insert messages, their deliveries, due now, and their first events."""
    if new:
        events = _first_events(new)
        for ready, given in steps(dialect_of(session), new, events):
            session.execute(ready.statement, given)
        _tell(session, events, _keys(new))


def commit_accepted(database: Database, new: New) -> None:
    """Do the same in a transaction of its own, without a Session: it costs half. Raises what ``Database.commit`` does."""
    events = _first_events(new)
    database.commit(steps(database.dialect, new, events))
    if log.isEnabledFor(logging.INFO):
        _print(events, _keys(new))


def _first_events(new: New) -> list[dict[str, Any]]:
    return [
        _event(
            message["tenant_id"], message["id"], None, Kind.ACCEPTED, {"recipients": len(its), "size": message["size"]}
        )
        for message, its in new
    ]


def _keys(new: New) -> dict[UUID, UUID | None]:
    """Return by which API key each message came."""
    return {message["id"]: message["key_id"] for message, _ in new}


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
    "attempted": Integer(),
    "unknown": Integer(),
    "crashed": Integer(),
    "released": Integer(),
}


def results(session: Session, owner: UUID, ended: Sequence[Result]) -> list[Result]:
    """Write how claims of ``owner`` ended and return those that still stood; the others were fenced and change nothing."""
    if not ended:
        return []
    by_claim = {(result.delivery_id, result.attempt): result for result in ended}
    dialect = dialect_of(session)
    given = {
        "owner": owner,
        "results": rows([_record(result) for result in ended]),
        "deliveries": id_rows(dialect, {result.delivery_id for result in ended}),
    }
    written = session.execute(_results(dialect), given).all()
    standing = [by_claim[identifier, attempt] for identifier, attempt, _ in written]
    told = [
        _told(result, result.kind, due) for result, (_, _, due) in zip(standing, written, strict=True) if result.kind
    ]
    # With the result, in one commit: there is one complaint for each delivery, whoever dies and whatever is repeated.
    events = told + [_complaint(result) for result in standing if result.complained]
    _append(session, events)
    _tell(session, events, {result.message_id: result.key_id for result in standing})
    _sum_up(session, [result.message_id for result in standing if result.status != PENDING])
    return standing


@cache
def _results(dialect: str) -> Executable:
    given = recordset(dialect, "results", _COLUMNS).c
    ours, pending = DELIVERIES.c, given.status == PENDING
    # By id; the index on the owner holds, until the next vacuum, all it ever claimed.
    known = ours.id.in_(select(ids(dialect, "deliveries").c.id))
    standing = unguessed(ours.attempt == given.attempt, ours.lease_owner == bindparam("owner"), ours.status == PENDING)
    return (
        update(DELIVERIES)
        .where(ours.id == given.id, known, standing)
        .values(
            status=given.status,
            reason=given.reason,
            reply_code=case((given.released == 1, ours.reply_code), else_=given.code),
            reply=case((given.released == 1, ours.reply), else_=given.reply),
            tries=ours.tries + given.counted,
            attempts=func.coalesce(ours.attempts, ours.tries) + given.attempted,
            unknowns=ours.unknowns + given.unknown,
            crashes=ours.crashes + given.crashed,
            next_attempt_at=case((pending, db_now(given.wait))),
            published_at=case((given.hinted > 0, db_now())),
            lease_owner=None,
            lease_until=None,
            finished_at=case((~pending, db_now())),
        )
        .returning(ours.id, ours.attempt, ours.next_attempt_at)
    )


def held(session: Session, message_ids: Sequence[UUID]) -> int:
    """Hold what waits of these messages if its tenant is suspended: pending, and never due until :func:`resumed`. Return how many."""
    given = {"messages": id_rows(dialect_of(session), sorted(message_ids))}
    rows = session.execute(_held(dialect_of(session)), given).all()
    events = [_event(tenant_id, message_id, identifier, Kind.HELD, {}) for identifier, message_id, tenant_id in rows]
    _append(session, events)
    if events:
        keys = select(MESSAGES.c.id, MESSAGES.c.key_id).where(among(dialect_of(session), MESSAGES.c.id, "messages"))
        _tell(session, events, {row.id: row.key_id for row in session.execute(keys, given)})
    return len(rows)


@cache
def _held(dialect: str) -> Executable:
    ours = DELIVERIES.c
    idle = (ours.status == PENDING, ours.lease_owner.is_(None), ours.next_attempt_at.is_not(None))
    waiting = select(ours.id).where(among(dialect, ours.message_id, "messages"), *idle, suspended(ours.tenant_id))
    chosen = waiting.order_by(ours.id).with_for_update().cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    changed = update(DELIVERIES).where(ours.id.in_(select(chosen.c.id))).values(next_attempt_at=None, published_at=None)
    return changed.returning(ours.id, ours.message_id, ours.tenant_id)


def resumed(session: Session, limit: int) -> int:
    """Make due now up to ``limit`` deliveries that are held although their tenant is active; return how many. No event: they go as if never held."""
    ours = DELIVERIES.c
    waits = (ours.status == PENDING, ours.lease_owner.is_(None), ours.next_attempt_at.is_(None))
    # From the tenants' side: of one that stays suspended there may be a million, and this is asked each second.
    holding = select(ours.id).where(*waits, ours.tenant_id == TENANTS.c.id).exists()
    tenants = session.scalars(select(TENANTS.c.id).where(TENANTS.c.status == ACTIVE, holding)).all()
    if not tenants:
        return 0
    chosen = select(ours.id).where(*waits, ours.tenant_id.in_(tenants)).limit(limit).with_for_update(skip_locked=True)
    found = session.scalars(chosen).all()
    freed = (
        update(DELIVERIES)
        .where(among(dialect_of(session), ours.id, "deliveries"), *waits)
        .values(next_attempt_at=db_now())
    )
    session.execute(freed, {"deliveries": id_rows(dialect_of(session), found)})
    return len(found)


def cancelled(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> Sequence[str]:
    """Cancel the deliveries of a message that are pending and in no worker's hands.

    Of a test message if ``tests_only``. Return the recipients' addresses.
    """
    ended = {"status": CANCELLED, "next_attempt_at": None, "published_at": None, "finished_at": db_now()}
    return _by_hand(session, _Its(tenant_id, message_id, tests_only), _IDLE, ended, Kind.CANCELLED)


def retried(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> Sequence[str]:
    """Make due now what has failed, with a fresh schedule, and what waits for its next try, on the schedule it is on.

    Of a test message if ``tests_only``. Return the recipients' addresses.
    """
    failed = Delivery.status == ERROR
    due = {"status": PENDING, "reason": None, "next_attempt_at": db_now(), "published_at": None, "finished_at": None}
    fresh = {
        column.key: case((failed, 0), else_=column) for column in (Delivery.tries, Delivery.crashes, Delivery.unknowns)
    }
    kept = {"attempts": func.coalesce(Delivery.attempts, Delivery.tries)}
    waits = _IDLE & (Delivery.next_attempt_at > db_now())
    return _by_hand(
        session, _Its(tenant_id, message_id, tests_only), or_(failed, waits), due | fresh | kept, Kind.RETRIED
    )


class _Its(NamedTuple):
    """Which message a person changes."""

    tenant_id: UUID
    message_id: UUID
    tests_only: bool


def _by_hand(
    session: Session, message: _Its, which: ColumnElement[bool], values: Mapping[str, Any], kind: Kind
) -> Sequence[str]:
    tenant_id, message_id, tests_only = message
    tests = of_test_messages(DELIVERIES.c.message_id, tenant_id, tests_only)
    its = (Delivery.tenant_id == tenant_id, Delivery.message_id == message_id, *tests)
    # In id order, as claims lock.
    locked = select(Delivery.id).where(*its, which).order_by(Delivery.id).with_for_update()
    chosen = locked.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = (
        update(DELIVERIES)
        .where(DELIVERIES.c.id.in_(select(chosen.c.id)), DELIVERIES.c.tenant_id == tenant_id, *tests)
        .values(**values)
    )
    changed = session.execute(statement.returning(DELIVERIES.c.id, DELIVERIES.c.address)).all()
    events = [_event(tenant_id, message_id, identifier, kind, {}) for identifier, _ in changed]
    _append(session, events)
    if changed:
        _tell(session, events, _sum_up(session, [message_id], tenant_id, tests_only))
    return [address for _, address in changed]


def _sum_up(
    session: Session, message_ids: Sequence[UUID], tenant_id: UUID | None = None, tests_only: bool = False
) -> Mapping[UUID, UUID | None]:
    """Bring messages' statuses in line with their deliveries' (see ``status.sum_of``): of any tenant's, or of one's (test) messages.

    Return by which key each came.
    """
    if not message_ids:
        return {}
    given: dict[str, Any] = {"messages": id_rows(dialect_of(session), set(message_ids))}
    if tenant_id:
        given["tenant"] = tenant_id
    lock, update_ = _sum_of(dialect_of(session), tenant_id is not None, tests_only)
    keys = {row.id: row.key_id for row in session.execute(lock, given)}
    session.execute(update_, given)
    return keys


@cache
def _sum_of(dialect: str, owned: bool, tests_only: bool) -> tuple[Executable, Executable]:
    ours, its = MESSAGES.c, DELIVERIES.c
    tenant = bindparam("tenant", type_=Uuid())
    whose = ([ours.tenant_id == tenant] if owned else []) + ([ours.test == true()] if tests_only else [])
    wanted = and_(among(dialect, ours.id, "messages"), *whose)
    # The lock first, in id order: of two workers that end two deliveries of one message, the second must see what the first wrote.
    # FOR NO KEY UPDATE: the events that both have inserted hold the message by its key.
    lock = select(ours.id, ours.key_id).where(wanted).order_by(ours.id).with_for_update(key_share=True)

    # Not an EXISTS for each status: PostgreSQL would hash all deliveries there are for it, with each commit.
    rank = case({status: number for number, status in enumerate(PRECEDENCE)}, value=its.status)
    first = case(dict(enumerate(PRECEDENCE)), value=func.min(rank))
    total = select(its.message_id, first.label("status")).group_by(its.message_id)
    if owned:
        total = total.where(its.tenant_id == tenant)
    if tests_only:
        total = total.where(its.message_id.in_(select(ours.id).where(*whose)))
    totals = for_each(dialect, ids(dialect, "messages"), its.message_id, total).subquery("totals")
    changed = update(MESSAGES).where(ours.id == totals.c.message_id, ours.status != totals.c.status, *whose)
    return lock, changed.values(status=totals.c.status)


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
        "attempted": int(result.attempted),
        "unknown": int(result.unknown),
        "crashed": int(result.crashed),
        "released": int(result.released),
    }


def _told(result: Result, kind: Kind, due: datetime | None) -> dict[str, Any]:
    data = {
        "claim": result.attempt,
        "code": result.code,
        "reply": result.reply,
        "reason": result.reason,
        **(result.data or {}),
    }
    if due is not None:
        data |= {"retry_in": round(result.wait), "retry_at": rfc3339(due)}
    return _event(result.tenant_id, result.message_id, result.delivery_id, kind, data)


def _complaint(result: Result) -> dict[str, Any]:
    data = {"claim": result.attempt, "feedback_type": "abuse"}  # RFC 5965 §3.1
    return _event(result.tenant_id, result.message_id, result.delivery_id, Kind.COMPLAINED, data)


def _event(
    tenant_id: UUID, message_id: UUID, delivery_id: UUID | None, kind: Kind, data: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "tenant_id": tenant_id,
        "message_id": message_id,
        "delivery_id": delivery_id,
        "at": datetime.now(UTC),
        "kind": kind.value,
        "data": {key: value for key, value in data.items() if value is not None},
    }


def _append(session: Session, events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        return
    if dialect_of(session) == "postgresql":
        session.execute(appended().statement, {"events": rows(events)})
    else:
        session.execute(insert(EVENTS), list(events))


def _tell(session: Session, events: Sequence[Mapping[str, Any]], keys: Mapping[UUID, UUID | None]) -> None:
    """Print a line for each event once it is committed; ``keys`` says by which API key each message came."""
    if events and log.isEnabledFor(logging.INFO):
        after_commit(session, lambda: _print(events, keys))


def _print(events: Sequence[Mapping[str, Any]], keys: Mapping[UUID, UUID | None]) -> None:
    for event in events:
        whose = {
            "message_id": event["message_id"],
            "tenant_id": event["tenant_id"],
            "key_id": keys.get(event["message_id"]),
        }
        log.info(event["kind"], extra={**whose, "delivery_id": event["delivery_id"], **event["data"]})
