"""The only writer of statuses of stored messages. Each change goes with its event (``log.py``).

Functions take a session, whose opener commits; only :func:`commit_results` commits itself.
``messages/storing.py`` inserts the rows, ``inbound_routes/effect.py`` those that routes make.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    JSON,
    ColumnElement,
    Executable,
    Integer,
    String,
    Update,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import Float, TypeEngine

from mailbbgun.core.clock import rfc3339
from mailbbgun.database import leasing
from mailbbgun.database.compiled import CompiledStatement, InSession, Rows, Statements, StatementStep
from mailbbgun.database.db import Database, UTCDateTime, db_now, dialect_of
from mailbbgun.database.sql import among, for_each, id_rows, ids, recordset, rows
from mailbbgun.events import log
from mailbbgun.events.changes.effects import applied, refused
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.models import DELIVERIES, MESSAGES, Delivery
from mailbbgun.messages.repo import of_test_messages
from mailbbgun.messages.status import CANCELLED, ERROR, PENDING, PRECEDENCE
from mailbbgun.smtp.outcome import Effect

_IDLE = and_(Delivery.status == PENDING, Delivery.lease_owner.is_(None))
_CANCELLED = {"status": CANCELLED, "next_attempt_at": None, "published_at": None, "finished_at": db_now()}


class Result(NamedTuple):
    """How one claim of a delivery ended. It counts only while the claim (id, number, owner) stands."""

    delivery_id: UUID
    message_id: UUID
    tenant_id: UUID
    claim_number: int
    kind: Kind | None  # None: no event
    status: str  # PENDING, DELIVERED or ERROR
    reason: Reason | None = None
    code: int | None = None  # the server's three digits; None when these are our own words
    reply: str | None = None
    wait: float = 0.0  # seconds until the next attempt is due
    hinted: int = 0  # seconds of the delay queue that gets the hint for that moment; 0: no hint
    counted: bool = False  # moves on in RETRY_DELAYS: adds to ``tries``
    attempted: bool = False  # a server was asked: adds to ``attempts``
    unknown: bool = False
    crashed: bool = False
    released: bool = False  # given back without an attempt: the last reply is kept
    complained: bool = False  # the recipient reported the delivered message as spam
    data: Mapping[str, Any] | None = None  # more for the event: phase, host, enhanced code…
    key_id: UUID | None = None  # the message's API key, for the log
    effect: Effect | None = None  # what its delivery here changes, in the same transaction
    otherwise: "Result | None" = None  # is written in its place if its effect may not be applied


_GIVEN = ("status", "reason", "code", "reply", "wait", "hinted")
_FLAGS = ("counted", "attempted", "unknown", "crashed", "released")
_COLUMNS: dict[str, TypeEngine[Any]] = {
    "id": Uuid(),
    **dict.fromkeys(("attempt", "code", "hinted", *_FLAGS), Integer()),
    **dict.fromkeys(("status", "reason", "reply"), String()),
    "wait": Float(),
}
#: The place of a result among all, and its event, if it has one. Only for PostgreSQL.
_MORE_COLUMNS: dict[str, TypeEngine[Any]] = {
    "place": Integer(),
    "event_id": Uuid(),
    "at": UTCDateTime(),
    "kind": String(),
    "data": JSON(),
}


def write_results(session: Session, owner: UUID, ended: Sequence[Result]) -> list[Result]:
    """Write how claims of the worker ``owner`` ended; return the results whose claims stand. The caller commits."""
    written = _write(InSession(session), owner, ended, lambda: None)
    log.log_after_commit(session, written.events, written.keys)
    return written.standing


def commit_results(
    database: Database, owner: UUID, ended: Sequence[Result], before_commit: Callable[[], None]
) -> list[Result]:
    """Do what :func:`write_results` does, without a session, and commit: on PostgreSQL in two round trips.

    ``before_commit`` is called once all but the sums of messages is written. Raises
    :class:`DatabaseUnavailable`; the results may have been committed all the same.
    """
    with database.statements() as statements:
        written = _write(statements, owner, ended, before_commit)
    log.print_lines(written.events, written.keys)
    return written.standing


class _Written(NamedTuple):
    standing: list[Result]
    events: list[dict[str, Any]]
    keys: list[UUID | None]  # the API key of each event's message, for the log


def _write(statements: Statements, owner: UUID, ended: Sequence[Result], before_commit: Callable[[], None]) -> _Written:
    """Write results and their events; then sum up the messages, whose rows are locked for that only now."""
    if not ended:
        return _Written([], [], [])
    dialect = statements.dialect
    if over := refused(statements, [(place, one.effect) for place, one in enumerate(ended) if one.effect]):
        ended = [one.otherwise or one if place in over else one for place, one in enumerate(ended)]
    events = [_event_of(result, result.kind) if result.kind else None for result in ended]
    given = {
        "owner": owner,
        "results": rows([_record(place, *pair) for place, pair in enumerate(zip(ended, events, strict=True))]),
        "deliveries": id_rows(dialect, [result.delivery_id for result in ended]),
    }
    standing, happened, keys = [], [], []
    found = statements.ask(_written(dialect), given)
    for place, due in found if dialect == "postgresql" else _placed(ended, found):
        result = ended[place]
        standing.append(result)
        if event := events[place]:
            if due is not None:
                event["data"]["retry_at"] = rfc3339(due)
            happened.append(event)
            keys.append(result.key_id)
    # In one commit with the result: each delivery has one complaint, whatever dies or is repeated.
    complained = [result for result in standing if result.complained]
    complaints = [_complaint(result) for result in complained]
    new = complaints if dialect == "postgresql" else happened + complaints
    steps = [log.appending(dialect, new)] if new else []
    summed = {result.message_id for result in standing if result.status != PENDING}
    steps += applied(statements, [(one.effect, one) for one in standing if one.effect], summed)
    steps += summing(dialect, summed) if summed else []
    before_commit()
    statements.last(steps)
    return _Written(standing, happened + complaints, keys + [result.key_id for result in complained])


def _placed(ended: Sequence[Result], found: Rows) -> Rows:
    """Return the place of each written result in ``ended`` instead of its delivery and claim."""
    places = {(result.delivery_id, result.claim_number): place for place, result in enumerate(ended)}
    return [(places[identifier, attempt], due) for identifier, attempt, due in found]


@cache
def _written(dialect: str) -> CompiledStatement:
    """Return the statement that writes results; on PostgreSQL with their events, in one round trip.

    It returns the place of each result, or on SQLite its delivery and claim, and when it is due again.
    """
    given = recordset(dialect, "results", _COLUMNS | (_MORE_COLUMNS if dialect == "postgresql" else {})).c
    ours = DELIVERIES.c
    if dialect == "sqlite":  # whose RETURNING knows no other table
        return CompiledStatement(_ended(dialect, given).returning(ours.id, ours.attempt, ours.next_attempt_at))
    event = (given.event_id, given.at, given.kind, given.data)
    told = (given.place, ours.next_attempt_at, ours.id, ours.message_id, ours.tenant_id, *event)
    its = _ended(dialect, given).returning(*told).cte("written").c
    data = log.with_due(its.data, its.next_attempt_at)
    happened = select(its.event_id, its.tenant_id, its.message_id, its.id, its.at, its.kind, data)
    appended = log.from_rows(happened.where(its.event_id.is_not(None))).cte("appended")
    return CompiledStatement(select(its.place, its.next_attempt_at).add_cte(appended))


def _ended(dialect: str, given: Any) -> Update:
    """Return the statement that ends the claims of the ``given`` results, if they still stand."""
    ours, pending = DELIVERIES.c, given.status == PENDING
    # Look rows up by id: until the next vacuum the index on the owner has all that it ever claimed.
    known = among(dialect, ours.id, "deliveries")
    standing = leasing.standing(DELIVERIES, given.attempt, ours.status == PENDING)
    return (
        update(DELIVERIES)
        .where(ours.id == given.id, known, standing)
        .values(
            status=given.status,
            reason=given.reason,
            reply_code=case((given.released == 1, ours.reply_code), else_=given.code),
            reply=case((given.released == 1, ours.reply), else_=given.reply),
            tries=ours.tries + func.coalesce(given.counted, 0),
            attempts=func.coalesce(ours.attempts, ours.tries) + func.coalesce(given.attempted, 0),
            unknowns=ours.unknowns + func.coalesce(given.unknown, 0),
            crashes=ours.crashes + func.coalesce(given.crashed, 0),
            next_attempt_at=case((pending, db_now(given.wait))),
            published_at=case((given.hinted > 0, db_now())),
            **leasing.ENDED,
            finished_at=case((~pending, db_now())),
        )
    )


def cancel(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> Sequence[str]:
    """Cancel the pending deliveries of a message that no worker has claimed; return their recipients' addresses.

    ``tests_only``: only if it is a test message.
    """
    message = _Chosen(tenant_id, Delivery.message_id == message_id, tests_only)
    return _by_hand(session, message, _IDLE, _CANCELLED, Kind.CANCELLED)


def cancel_all(
    session: Session, tenant_id: UUID, messages: ColumnElement[bool], *, tests_only: bool = False
) -> Sequence[str]:
    """Do what :func:`cancel` does for many messages of a tenant: those that the condition ``messages`` holds for."""
    these = Delivery.message_id.in_(select(MESSAGES.c.id).where(messages))
    return _by_hand(session, _Chosen(tenant_id, these, tests_only), _IDLE, _CANCELLED, Kind.CANCELLED)


def retry(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> Sequence[str]:
    """Make failed and waiting deliveries of a message due now; return the recipients' addresses.

    A failed delivery begins RETRY_DELAYS anew; a waiting one goes on where it is. ``tests_only``: only
    if it is a test message.
    """
    failed = Delivery.status == ERROR
    due = {"status": PENDING, "reason": None, "next_attempt_at": db_now(), "published_at": None, "finished_at": None}
    fresh = {
        column.key: case((failed, 0), else_=column) for column in (Delivery.tries, Delivery.crashes, Delivery.unknowns)
    }
    kept = {"attempts": func.coalesce(Delivery.attempts, Delivery.tries)}
    waits = _IDLE & (Delivery.next_attempt_at > db_now())
    message = _Chosen(tenant_id, Delivery.message_id == message_id, tests_only)
    return _by_hand(session, message, or_(failed, waits), due | fresh | kept, Kind.RETRIED)


class _Chosen(NamedTuple):
    """The messages that a person changes: ``messages`` is a condition on the ``message_id`` of deliveries."""

    tenant_id: UUID
    messages: ColumnElement[bool]
    tests_only: bool


def _by_hand(
    session: Session, chosen_: _Chosen, which: ColumnElement[bool], values: Mapping[str, Any], kind: Kind
) -> Sequence[str]:
    tenant_id, messages, tests_only = chosen_
    tests = of_test_messages(DELIVERIES.c.message_id, tenant_id, tests_only)
    its = (Delivery.tenant_id == tenant_id, messages, *tests)
    # Lock in order of id, as claims do, so that the two cannot deadlock.
    locked = select(Delivery.id).where(*its, which).order_by(Delivery.id).with_for_update()
    chosen = locked.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = (
        update(DELIVERIES)
        .where(DELIVERIES.c.id.in_(select(chosen.c.id)), DELIVERIES.c.tenant_id == tenant_id, *tests)
        .values(**values)
    )
    its_columns = (DELIVERIES.c.message_id, DELIVERIES.c.id, DELIVERIES.c.address)
    changed = session.execute(statement.returning(*its_columns)).all()
    events = [log.event(tenant_id, message_id, identifier, kind, {}) for message_id, identifier, _ in changed]
    log.append(session, events)
    if changed:
        keys = sum_up(session, [message_id for message_id, _, _ in changed], tenant_id, tests_only)
        log.log_after_commit(session, events, [keys.get(one["message_id"]) for one in events])
    return [address for _, _, address in changed]


def sum_up(
    session: Session, message_ids: Sequence[UUID], tenant_id: UUID | None = None, tests_only: bool = False
) -> Mapping[UUID, UUID | None]:
    """Set the statuses of messages from those of their deliveries (``status.sum_of``); return each one's API key.

    With ``tenant_id`` only that tenant's messages; with ``tests_only`` only its test messages.
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
    # Lock first, in order of id: if two workers end two deliveries of one message, the second must see what
    # the first wrote. FOR NO KEY UPDATE, since the events that both have inserted lock the message's key.
    lock = select(ours.id, ours.key_id).where(wanted).order_by(ours.id).with_for_update(key_share=True)

    # Not an EXISTS for each status: PostgreSQL would hash all deliveries for it, with each commit.
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


def summing(dialect: str, message_ids: Collection[UUID]) -> list[StatementStep]:
    """Return the steps that set the statuses of messages, of any tenants, from those of their deliveries."""
    return [StatementStep(one, [{"messages": id_rows(dialect, message_ids)}]) for one in _sum_of_any(dialect)]


@cache
def _sum_of_any(dialect: str) -> list[CompiledStatement]:
    statements = _sum_of(dialect, owned=False, tests_only=False)
    return [CompiledStatement(one) for one in (statements if dialect == "postgresql" else statements[1:])]


def _record(place: int, result: Result, event: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the row of a result and its event."""
    record: dict[str, Any] = {
        "place": place,
        "id": result.delivery_id.hex,
        "attempt": result.claim_number,
        **{name: getattr(result, name) for name in _GIVEN},
        **{name: 1 for name in _FLAGS if getattr(result, name)},
    }
    if event:
        record |= {"event_id": event["id"], "at": event["at"], "kind": event["kind"], "data": event["data"]}
    return record


def _event_of(result: Result, kind: Kind) -> dict[str, Any]:
    data: dict[str, Any] = {"claim": result.claim_number, "code": result.code, "reply": result.reply}
    data |= {"reason": result.reason, **(result.data or {})}
    if result.status == PENDING:
        data["retry_in"] = round(result.wait)  # "retry_at" follows, once the database has told the moment
    return log.event(result.tenant_id, result.message_id, result.delivery_id, kind, data)


def _complaint(result: Result) -> dict[str, Any]:
    data = {"claim": result.claim_number, "feedback_type": "abuse"}  # RFC 5965 §3.1
    return log.event(result.tenant_id, result.message_id, result.delivery_id, Kind.COMPLAINED, data)
