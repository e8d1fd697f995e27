"""What the worker reads and writes of endpoints: leases, places, retries, attempts.

Each function takes a session and never commits.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.database.leasing import ENDED
from mailbbgun.database.sql import for_each, id_rows, ids
from mailbbgun.deliver import workers
from mailbbgun.events import log
from mailbbgun.events.filters import NO_FILTERS, EventFilters
from mailbbgun.events.kinds import Kind
from mailbbgun.events.reading import LoggedEvent, Position, place_after, read
from mailbbgun.webhooks.models import ATTEMPTS, ENDPOINTS, REPLAYS, RETRIES
from mailbbgun.webhooks.sending import SentRequest, SharedEvent
from mailbbgun.webhooks.serving.served import Served
from mailbbgun.webhooks.serving.track import Track
from mailbbgun.webhooks.verdict import error, retry_seconds

_E, _R, _P, _A = ENDPOINTS.c, RETRIES.c, REPLAYS.c, ATTEMPTS.c
#: Retries that one endpoint has in hand at once.
MOST_RETRIES = 20
#: Rows of the log of attempts that an endpoint has at most, and that one statement deletes.
MOST_ATTEMPTS, FORGOTTEN = 1000, 1000
#: Events among which one read looks for those of a replay.
SEARCHED = 20_000

lines = logging.getLogger("mailbbgun.webhooks")


def any_free(session: Session) -> bool:
    """Return whether there is an endpoint that nobody serves."""
    return session.scalar(select(_E.id).where(*_free()).limit(1)) is not None


def _free() -> tuple[ColumnElement[bool], ...]:
    return (_E.enabled, or_(_E.lease_owner.is_(None), _E.lease_until < db_now()))


def claim(session: Session, owner: UUID, seconds: int) -> Sequence[UUID]:
    """Lease our share of the endpoints that nobody serves; return their ids. Each machine has one of us."""
    free = _free()
    count = session.scalar(select(func.count()).select_from(ENDPOINTS).where(*free)) or 0
    if not count:
        return []
    share = -(-count // workers.count_hosts(session))
    chosen = select(_E.id).where(*free).order_by(_E.id).limit(share).with_for_update(skip_locked=True)
    taken = {"lease_owner": owner, "lease_until": db_now(seconds), "attempt": _E.attempt + 1}
    statement = update(ENDPOINTS).where(_E.id.in_(chosen.scalar_subquery()), *free).values(taken)
    return session.scalars(statement.returning(_E.id)).all()


def prolong(session: Session, owner: UUID, seconds: int) -> None:
    """Prolong the leases of a worker."""
    session.execute(update(ENDPOINTS).where(_E.lease_owner == owner).values(lease_until=db_now(seconds)))


def release(session: Session, owner: UUID) -> None:
    """End the leases of a worker, so that another one goes on at once."""
    session.execute(update(ENDPOINTS).where(_E.lease_owner == owner).values(ENDED))


def release_disabled(session: Session, owner: UUID) -> None:
    """End the leases of a worker on endpoints that are disabled."""
    session.execute(update(ENDPOINTS).where(_E.lease_owner == owner, ~_E.enabled).values(ENDED))


def held(session: Session, owner: UUID) -> dict[UUID, tuple[int, datetime]]:
    """Return lease and last change of each enabled endpoint that a worker has leased."""
    found = session.execute(select(_E.id, _E.attempt, _E.updated_at).where(_E.lease_owner == owner, _E.enabled))
    return {row.id: (row.attempt, row.updated_at) for row in found}


def endpoints(session: Session, ids: Collection[UUID]) -> Sequence[Row[Any]]:
    """Return the rows of these endpoints."""
    return session.execute(select(ENDPOINTS).where(_E.id.in_(ids))).all()


def replays(session: Session, owner: UUID) -> Sequence[Row[Any]]:
    """Return the replays of a worker's endpoints that are not finished."""
    its = select(_E.id).where(_E.lease_owner == owner)
    return session.execute(select(REPLAYS).where(_P.endpoint_id.in_(its), _P.finished_at.is_(None))).all()


def due_retries(session: Session, endpoint_ids: Collection[UUID]) -> Sequence[Row[Any]]:
    """Return retries of these endpoints whose time has come: the first of each."""
    dialect, due = dialect_of(session), _R.next_at <= db_now()
    if dialect == "postgresql":  # by the index, however many are due
        first = select(RETRIES).where(due).order_by(_R.next_at, _R.id).limit(MOST_RETRIES)
        statement = for_each(dialect, ids(dialect, "endpoints"), _R.endpoint_id, first)
        return session.execute(statement, {"endpoints": id_rows(dialect, endpoint_ids)}).all()
    place = func.row_number().over(partition_by=_R.endpoint_id, order_by=(_R.next_at, _R.id)).label("place")
    all_due = select(RETRIES, place).where(_R.endpoint_id.in_(endpoint_ids), due).subquery()
    return session.execute(select(all_due).where(all_due.c.place <= MOST_RETRIES)).all()


def event_at(session: Session, tenant_id: UUID, place: Position, *, tests_only: bool = False) -> LoggedEvent | None:
    """Return the event at a place in the log; None if it is no longer kept."""
    before = Position(place.number, UUID(int=max(0, place.event_id.int - 1)))
    found = read(session, tenant_id, before, 1, until=place, tests_only=tests_only)
    return found[0] if found and found[0].position == place else None


def events_after(
    session: Session, one: Served, track: Track, limit: int
) -> tuple[Sequence[SharedEvent], Position | None]:
    """Return up to ``limit`` events behind a place, and the place up to which was looked; None: to the end."""
    filters, searched = NO_FILTERS, None
    if track is one.replay and one.replay_times is not None:
        filters = EventFilters(begin=one.replay_times[0], end=one.replay_times[1])
        searched = place_after(session, one.tenant_id, track.read_to, SEARCHED)
        if searched is not None and track.until is not None and searched >= track.until:
            searched = None
    until = searched or track.until
    found = read(session, one.tenant_id, track.read_to, limit, filters=filters, until=until)
    return [SharedEvent(*event) for event in found], searched


def still_ours(session: Session, owner: UUID, changed: Collection[Served]) -> set[UUID]:
    """Return which of these endpoints are still leased to us, and lock their rows."""
    its = (_E.id.in_([one.to.endpoint_id for one in changed]), _E.lease_owner == owner)
    found = session.execute(select(_E.id, _E.attempt).where(*its).order_by(_E.id).with_for_update())
    leases = {row.id: row.attempt for row in found}
    return {one.to.endpoint_id for one in changed if leases.get(one.to.endpoint_id) == one.lease}


def write(session: Session, changed: Sequence[Served]) -> None:
    """Write places, states, retries and attempts of endpoints."""
    moved = [
        {"b_id": one.to.endpoint_id, "position": one.main.place.number, "event_id": one.main.place.event_id}
        for one in changed
        if one.main.place != one.main.saved
    ]
    _update_each(session, moved)
    _update_each(
        session,
        [
            {
                "b_id": one.to.endpoint_id,
                "b_changed": one.updated_at,
                "failing_since": one.failing_since,
                "pauses": one.pauses,
                "paused_until": one.paused_until,
            }
            for one in changed
            if one.changes.state
        ],
        _as_it_was(),
    )
    _write_replays(session, changed)
    _write_retries(session, changed)
    if rows := [row for one in changed for row in _attempts(one)]:
        session.execute(ATTEMPTS.insert(), rows)


def _attempts(one: Served) -> Iterator[dict[str, Any]]:
    for item, tried in one.changes.attempts:
        its = item.event
        yield attempt(one.tenant_id, one.to.endpoint_id, its.position, its.kind.value, item.cause, tried)


def _as_it_was() -> ColumnElement[bool]:
    """Return the condition that nobody has changed an endpoint since the state that is to be written."""
    return _E.updated_at == bindparam("b_changed", type_=_E.updated_at.type)


def _update_each(session: Session, rows: Sequence[Mapping[str, Any]], *only: ColumnElement[bool]) -> None:
    if rows:
        names: Any = {name: bindparam(name) for name in rows[0] if not name.startswith("b_")}
        its = (_E.id == bindparam("b_id"), *only)
        session.connection().execute(update(ENDPOINTS).where(*its).values(names), list(rows))


def _write_replays(session: Session, changed: Sequence[Served]) -> None:
    for one in changed:
        if one.replay is not None and one.replay.place != one.replay.saved:
            moved = {"position": one.replay.place.number, "event_id": one.replay.place.event_id}
            session.execute(update(REPLAYS).where(_P.id == one.replay_id).values(moved))


def finish_replay(session: Session, replay_id: UUID) -> None:
    """Note that a replay is done."""
    session.execute(update(REPLAYS).where(_P.id == replay_id).values(finished_at=db_now()))


def _write_retries(session: Session, changed: Sequence[Served]) -> None:
    now, rows = datetime.now(UTC), []
    ended: list[UUID] = []
    for one in changed:
        ended += one.changes.ended
        for identifier, item in one.changes.retries.items():
            tries = item.tries + 1 if item.cause == "retry" else 0
            seconds = retry_seconds(tries)
            if seconds is None:
                ended.append(identifier)
                told = {"endpoint_id": one.to.endpoint_id, "tenant_id": one.tenant_id, "event_id": item.event.id}
                lines.warning("webhook_given_up", extra=told)
                continue
            place = {"position": item.event.position.number, "event_id": item.event.position.event_id}
            whose = {"id": identifier, "tenant_id": one.tenant_id, "endpoint_id": one.to.endpoint_id}
            rows.append(whose | place | {"tries": tries, "next_at": now + timedelta(seconds=seconds)})
    if ended:
        session.execute(delete(RETRIES).where(_R.id.in_(ended)))
    if rows:
        insert = (postgresql.insert if dialect_of(session) == "postgresql" else sqlite.insert)(RETRIES)
        new = {"tries": insert.excluded.tries, "next_at": insert.excluded.next_at}
        session.execute(insert.on_conflict_do_update(index_elements=[_R.id], set_=new), rows)


def attempt(
    tenant_id: UUID, endpoint_id: UUID, place: Position, kind: str, cause: str, tried: SentRequest
) -> dict[str, Any]:
    """Return the row of a request about the event at a place."""
    return {
        "id": new_id(),
        "tenant_id": tenant_id,
        "endpoint_id": endpoint_id,
        "position": place.number,
        "event_id": place.event_id,
        "kind": kind,
        "cause": cause,
        "at": tried.at,
        "seconds": round(tried.seconds, 3),
        "request_headers": tried.request_headers,
        "status": tried.status,
        "answer_headers": _short(tried.answer_headers),
        "answer": tried.answer.decode("utf-8", "replace").replace("\0", "�"),
        "error": error(tried),
    }


def _short(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the first headers of an answer, without characters that PostgreSQL does not keep."""
    return {name[:100]: value[:500].replace("\0", "") for name, value in list(headers.items())[:30]}


def disable(session: Session, one: Served) -> None:
    """Disable an endpoint; write the event about it and, after the commit, a line in the log.

    Not if a person has changed it since: who mended it wants it to be tried again.
    """
    assert one.stopped is not None
    values = {"enabled": False, "disabled_reason": one.stopped, "updated_at": db_now(), **ENDED}
    its = update(ENDPOINTS).where(_E.id == one.to.endpoint_id, _as_it_was()).values(values).returning(_E.id)
    if session.scalar(its, {"b_changed": one.updated_at}) is None:
        return
    data = {"webhook_id": str(one.to.endpoint_id), "url": one.to.url, "why": one.stopped}
    event = log.event(one.tenant_id, None, None, Kind.WEBHOOK_DISABLED, data)
    log.append(session, [event])
    log.log_after_commit(session, [event], [None])


def forget_attempts(session: Session, days: int) -> int:
    """Delete attempts and finished replays that are older than so many days; return how many attempts."""
    old = datetime.now(UTC) - timedelta(days=days)
    session.execute(delete(REPLAYS).where(_P.finished_at < old))
    chosen = select(_A.id).where(_A.at < old).limit(FORGOTTEN)
    return len(session.scalars(delete(ATTEMPTS).where(_A.id.in_(chosen.scalar_subquery())).returning(_A.id)).all())


def forget_surplus(session: Session, endpoint_id: UUID) -> None:
    """Delete the attempts of an endpoint beyond the newest :data:`MOST_ATTEMPTS`."""
    its = select(_A.id).where(_A.endpoint_id == endpoint_id).order_by(_A.id.desc()).offset(MOST_ATTEMPTS).limit(1)
    newest = session.scalar(its)
    if newest is not None:
        session.execute(delete(ATTEMPTS).where(_A.endpoint_id == endpoint_id, _A.id <= newest))
