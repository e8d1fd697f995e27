"""A reader of the log: it keeps how many mails came, arrived and failed, by minute and by hour.

Only tenants with a rule that needs counts are read. The counts and the reader's place in the log move in one
transaction, so each event counts once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.alerts.models import COUNTS
from mailbbgun.alerts.notices import is_ours
from mailbbgun.database.db import Database, dialect_of
from mailbbgun.events import cursors, reading
from mailbbgun.events.kinds import Kind, ends
from mailbbgun.events.models import CURSORS, EVENTS
from mailbbgun.events.reading import Position
from mailbbgun.events.storage.settled import settled
from mailbbgun.messages.models import MESSAGES

#: The reader's name.
CURSOR = ".alerts"
#: Events of one transaction.
PIECE = 2000
#: How long counts are kept, by their length in seconds: more than the longest window that asks for them.
KEPT = {60: timedelta(hours=26), 3600: timedelta(days=8)}
#: Kinds that count as failed, if they are final.
FAILED = frozenset({Kind.BOUNCED, Kind.EXPIRED, Kind.OUTCOME_UNKNOWN, Kind.PARKED})
_COUNTED = FAILED | {Kind.ACCEPTED, Kind.DELIVERED}

_E, _M, _C = EVENTS.c, MESSAGES.c, COUNTS.c


class Slot(NamedTuple):
    """What events are counted under."""

    seconds: int
    begin: int
    kind: str


def read_on(database: Database, tenant_id: UUID) -> bool:
    """Count the next events of a tenant; return whether there may be more.

    The first call counts nothing: a rule is about what comes. Raises :class:`DatabaseUnavailable`.
    """
    with database.write(tenant_id) as session:
        its = (CURSORS.c.tenant_id == tenant_id, CURSORS.c.name == CURSOR)
        # Two workers do not count the same events.
        place = session.execute(
            select(CURSORS.c.position, CURSORS.c.event_id).where(*its).with_for_update()
        ).one_or_none()
        if place is None:
            cursors.move(session, tenant_id, CURSOR, reading.end(session, tenant_id))
            return False
        found = _events(session, tenant_id, Position(*place))
        if found:
            _add(session, tenant_id, found)
            cursors.move(session, tenant_id, CURSOR, Position(found[-1].position, found[-1].id))
        return len(found) == PIECE


def total(session: Session, tenant_id: UUID, kinds: Iterable[Kind], since: datetime) -> int:
    """Return how many events of these kinds there were since a moment, to the minute."""
    its = (_C.tenant_id == tenant_id, _C.seconds == 60, _C.begin > int(since.timestamp()) - 60)
    statement = select(func.sum(_C.n)).where(*its, _C.kind.in_([kind.value for kind in kinds]))
    return int(session.scalar(statement) or 0)


def last(session: Session, tenant_id: UUID, kind: Kind) -> datetime | None:
    """Return when the last event of a kind was; None if that is more than a day ago."""
    its = (_C.tenant_id == tenant_id, _C.seconds == 60, _C.kind == kind.value)
    found: datetime | None = session.scalar(select(func.max(_C.last_at)).where(*its))
    return found


def by_hour(session: Session, tenant_id: UUID, kind: Kind) -> Mapping[int, int]:
    """Return how many events of a kind there were in each of the last hours, by the hour's beginning."""
    its = (_C.tenant_id == tenant_id, _C.seconds == 3600, _C.kind == kind.value)
    return {row.begin: row.n for row in session.execute(select(_C.begin, _C.n).where(*its))}


def first_hour(session: Session, tenant_id: UUID) -> int | None:
    """Return the beginning of the first hour with a count of any kind, in Unix seconds."""
    its = (_C.tenant_id == tenant_id, _C.seconds == 3600)
    found: int | None = session.scalar(select(func.min(_C.begin)).where(*its))
    return found


def forget_old(session: Session, now: datetime) -> None:
    """Delete counts that no rule can ask for."""
    for seconds, kept in KEPT.items():
        session.execute(delete(COUNTS).where(_C.seconds == seconds, _C.begin < int((now - kept).timestamp())))


def _events(session: Session, tenant_id: UUID, after: Position) -> Sequence[Any]:
    message = (_M.id == _E.message_id) & (_M.tenant_id == tenant_id)
    later = tuple_(after.number, after.event_id) < tuple_(_E.position, _E.id)
    statement = (
        select(_E.position, _E.id, _E.at, _E.kind, _E.data, _E.message_id, _M.test, _M.metadata)
        .outerjoin(MESSAGES, message)
        .where(_E.tenant_id == tenant_id, settled(dialect_of(session)), later)
        .order_by(_E.position, _E.id)
        .limit(PIECE)
    )
    return session.execute(statement).all()


def _add(session: Session, tenant_id: UUID, found: Iterable[Any]) -> None:
    numbers: Counter[Slot] = Counter()
    latest: dict[Slot, datetime] = {}
    for row in found:
        kind = Kind(row.kind)
        if kind not in _COUNTED or row.test or is_ours(row.metadata) or (kind in FAILED and not ends(kind, row.data)):
            continue
        # A batch has one event for all its messages, with the id of the last of them.
        n = int(row.data.get("messages", 1)) if row.id == row.message_id else 1
        moment = int(row.at.timestamp())
        for seconds in KEPT:
            slot = Slot(seconds, moment - moment % seconds, kind.value)
            numbers[slot] += n
            latest[slot] = max(latest.get(slot, row.at), row.at)
    if not numbers:
        return
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(COUNTS)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id", "seconds", "begin", "kind"],
        set_={"n": COUNTS.c.n + statement.excluded.n, "last_at": statement.excluded.last_at},
    )
    rows = [{"tenant_id": tenant_id, **slot._asdict(), "n": n, "last_at": latest[slot]} for slot, n in numbers.items()]
    session.execute(statement, rows)
