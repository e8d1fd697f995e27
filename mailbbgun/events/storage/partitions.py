"""Makes the months of PostgreSQL's table of events ahead, and deletes what EVENT_DAYS says.

A month is dropped as a whole, which costs nothing. A month that is missing loses nothing: PostgreSQL puts its
events into the default partition, and :func:`make_ahead` moves them. SQLite has no partitions; its oldest
events are deleted in pieces.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.refusal import NOT_PERMITTED
from mailbbgun.events.models import EVENTS
from mailbbgun.events.storage.settled import remember_reached

#: Days that must have a partition already.
AHEAD_DAYS = 45
#: Milliseconds that a change of partitions waits for those who use the table. They wait behind it meanwhile.
LOCK_MILLISECONDS = 1000
#: Events that one commit deletes where there is no partition to drop.
PIECE = 1000

#: PostgreSQL's codes for a deadlock, and for a lock that did not come in time.
_BUSY = ("40P01", "55P03")
#: The partitions with the end of their range; the default one has none.
_PARTITIONS = text(
    "SELECT c.relname AS name, "
    "CAST((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)'))[1] AS timestamptz) AS upper "
    "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = CAST('events' AS regclass)"
)
_OLD_PIECE = (
    "DELETE FROM {table} WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM {table} WHERE at < :before LIMIT :piece)"
)

log = logging.getLogger("mailbbgun.events")


class Partition(NamedTuple):
    """A partition, and the end of its range; None: the default one."""

    name: str
    upper: datetime | None


def make_ahead(database: Database) -> int:
    """Make the partitions of the next :data:`AHEAD_DAYS` that are missing; return how many. Safe to repeat.

    It makes none while the table is in use for too long, or without the right to make tables; it may be
    called again. Raises :class:`DatabaseUnavailable`.
    """
    made = 0
    while database.dialect == "postgresql" and _make_next(database):
        made += 1
    return made


def _make_next(database: Database) -> bool:
    try:
        with database.write() as session:
            ends = [one.upper for one in _partitions(session) if one.upper]
            now = _now(session).astimezone(UTC)
            # None are left if the service was away for longer than EVENT_DAYS.
            this_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            first = max(ends, default=this_month).astimezone(UTC)
            if first > now + timedelta(days=AHEAD_DAYS):
                return False
            _make(session, first, first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1))
    except DatabaseUnavailable as error:
        if _sqlstate(error) not in (*_BUSY, NOT_PERMITTED):
            raise
        log.warning("partition_missing", extra={"error": str(error), "meanwhile": "the default partition is used"})
        return False
    return True


def _make(session: Session, first: datetime, end: datetime) -> None:
    name, month = f"events_{first:%Y_%m}", {"first": first, "end": end}
    _wait_briefly(session)
    session.execute(text("LOCK TABLE events_default IN ACCESS EXCLUSIVE MODE"))
    session.execute(text(f"CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS)"))
    moved = "WITH moved AS (DELETE FROM events_default WHERE at >= :first AND at < :end RETURNING *)"
    session.execute(text(f"{moved} INSERT INTO {name} SELECT * FROM moved"), month)
    bounds = f"FROM ('{first.isoformat()}') TO ('{end.isoformat()}')"
    session.execute(text(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES {bounds}"))


class Expiry:
    """Deletes events that are older than so many days."""

    def __init__(self, database: Database, days: int) -> None:
        self._database, self._days = database, days

    def run(self, stop: threading.Event) -> None:
        """Delete all that is too old, unless ``stop`` is set. Raises :class:`DatabaseUnavailable`."""
        if self._database.dialect == "sqlite":
            self._repeat(self._delete_first, stop)
        elif self._drop_months():
            self._repeat(lambda session: self._delete_old(session, "events_default"), stop)
        else:
            self._repeat(lambda session: self._delete_old(session, "events"), stop)

    def _repeat(self, step: Callable[[Session], bool], stop: threading.Event) -> None:
        more = True
        while more and not stop.is_set():
            began = time.monotonic()
            with self._database.write() as session:
                more = step(session)
            stop.wait(rest_after(time.monotonic() - began))

    def _before(self, session: Session) -> datetime:
        return _now(session) - timedelta(days=self._days)

    def _delete_first(self, session: Session) -> bool:
        """Delete the oldest events of SQLite's log. Return whether there may be more.

        It looks only at the oldest ones by position, so it needs no index on their times.
        """
        oldest = select(EVENTS.c.position, EVENTS.c.at).order_by(EVENTS.c.position).limit(PIECE)
        before = self._before(session)
        old = [one.position for one in session.execute(oldest) if one.at < before]
        if old:
            session.execute(delete(EVENTS).where(EVENTS.c.position.in_(old)))
            log.info("events_deleted", extra={"events": len(old)})
        return len(old) == PIECE

    def _drop_months(self) -> bool:
        """Drop the partitions that are too old. Return False if our role may not."""
        try:
            with self._database.write() as session:
                before = self._before(session)
                old = [one.name for one in _partitions(session) if one.upper and one.upper <= before]
                if old:
                    _wait_briefly(session)
                    remember_reached(session)
                    session.execute(text(f"DROP TABLE {', '.join(sorted(old))}"))
                    log.info("events_deleted", extra={"partitions": sorted(old)})
        except DatabaseUnavailable as error:
            if _sqlstate(error) == NOT_PERMITTED:
                return False
            if _sqlstate(error) not in _BUSY:
                raise
            log.info("events_in_use", extra={"error": str(error)})  # the next time, then
        return True

    def _delete_old(self, session: Session, table: str) -> bool:
        remember_reached(session)
        given = {"before": self._before(session), "piece": PIECE}
        gone = session.connection().execute(text(_OLD_PIECE.format(table=table)), given).rowcount
        return gone == PIECE


def _partitions(session: Session) -> list[Partition]:
    return [Partition(one.name, one.upper) for one in session.execute(_PARTITIONS)]


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(db_now())).scalar_one()
    return now


def _wait_briefly(session: Session) -> None:
    session.execute(text(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}"))


def _sqlstate(error: DatabaseUnavailable) -> str | None:
    return getattr(getattr(error.__cause__, "orig", None), "pgcode", None)
