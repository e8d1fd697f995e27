"""Follows the log, and keeps the sums up to date.

Each turn reads some events and adds them up outside a write, so that its transaction is short: an open
one would delay all other readers of the log. Then one transaction adds the sums and moves the cursor,
if the cursor is still where the events were read from. So each event counts once, whoever else counts
and whatever is killed.
"""

import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.database.db import Database, db_now, dialect_of
from mailbbgun.events import cursors, reading
from mailbbgun.events.reading import START, Position
from mailbbgun.settings.settings import Settings
from mailbbgun.statistics import repo
from mailbbgun.statistics.counting import ACCEPTED, DAY, DELIVERED, SECONDS, LabelSums, RollupRow, admitted, sums
from mailbbgun.statistics.models import READERS
from mailbbgun.statistics.period import Kept
from mailbbgun.tenants.models import Tenant

#: The name of the cursor.
CURSOR = ".statistics"
#: Events of one turn.
EVENTS = 2000
#: Seconds for which a tenant is left alone whose events could not be counted.
FAILED_SECONDS = 60.0
#: Seconds between two looks for tenants with events, while others are counted.
LOOK_SECONDS = 1.0
#: Seconds for which other processes leave a tenant to the one that counts.
LEASE_SECONDS = 20

_R = READERS.c

log = logging.getLogger("mailbbgun.statistics")


class Read(NamedTuple):
    """Events that were read, added up. ``begin`` and ``end`` are the places before and after them."""

    begin: Position
    end: Position
    since: int | None
    sums: dict[RollupRow, LabelSums]
    events: int


class Follower:
    """Counts the events of all tenants, for one process. ``owner`` names the process."""

    def __init__(self, database: Database, settings: Settings, owner: UUID, *, events: int = EVENTS) -> None:
        """``events``: how many a turn reads, at most."""
        self._database, self._owner, self._events = database, owner, events
        self._kept, self._labels = Kept.of(settings), settings.STATISTICS_LABELS
        self._failed: dict[UUID, float] = {}  # tenant → monotonic seconds until which it is left alone
        self._leased: dict[UUID, float] = {}  # tenant → monotonic seconds until which the lease need not be renewed

    def run(self, stop: threading.Event) -> None:
        """Count all that has happened, until ``stop`` is set. Raises :class:`DatabaseUnavailable`.

        An event that cannot be counted, as one of a later version, stops the figures of its tenant, and no mail.
        """
        waiting, looked = self._waiting(), time.monotonic()
        while waiting and not stop.is_set():
            # One turn each, so that a tenant that is far behind does not make the others wait.
            waiting = [one for one in waiting if not stop.is_set() and self._rested(one, stop)]
            if waiting and time.monotonic() - looked > LOOK_SECONDS:  # nor those that have events since
                waiting, looked = self._waiting(), time.monotonic()

    def turn(self, tenant_id: UUID) -> bool:
        """Count the next events of a tenant; return whether there may be more for this process to count."""
        if not self._lease(tenant_id):
            return False
        read = self._read(tenant_id)
        if read is None:
            return False
        return self._keep(tenant_id, read) and read.events == self._events

    def forget_old(self, stop: threading.Event) -> None:
        """Delete figures of intervals that are too old, piece by piece."""
        for interval in SECONDS:
            before = self._kept.since(interval, time.time())
            more = before is not None
            while more and before is not None and not stop.is_set():
                with self._database.write() as session:
                    more = repo.forget_old(session, interval, before)

    def _waiting(self) -> list[UUID]:
        """Return the tenants that are behind, without those that are left alone."""
        now = time.monotonic()
        return [one for one in self._behind() if self._failed.get(one, 0.0) <= now]

    def _behind(self) -> list[UUID]:
        """Return the tenants that have events which are not counted."""
        with self._database.read() as session:
            known = cursors.places(session, CURSOR)
            places = {one: known.get(one, START) for one in session.scalars(select(Tenant.id))}
            return reading.tenants_with_events_after(session, places)

    def _rested(self, tenant_id: UUID, stop: threading.Event) -> bool:
        began = time.monotonic()
        try:
            more = self.turn(tenant_id)
        except DatabaseUnavailable:
            raise
        except Exception:
            self._failed[tenant_id] = began + FAILED_SECONDS
            log.exception("statistics_failed", extra={"tenant_id": tenant_id, "retry_in": FAILED_SECONDS})
            return False
        if more:
            stop.wait(rest_after(time.monotonic() - began, times=1))
        return more

    def _lease(self, tenant_id: UUID) -> bool:
        """Return whether this process is the one that counts a tenant's events now."""
        if self._leased.get(tenant_id, 0.0) > time.monotonic():
            return True
        began = time.monotonic()
        with self._database.write() as session:
            ours = lease(session, tenant_id, self._owner)
        if ours:
            self._leased[tenant_id] = began + LEASE_SECONDS / 2
        return ours

    def _read(self, tenant_id: UUID) -> Read | None:
        """Read the next events of a tenant and add them up; None if there are none."""
        with self._database.read(tenant_id) as session:
            begin = cursors.place(session, tenant_id, CURSOR) or START
            since = session.scalar(select(_R.since).where(_R.tenant_id == tenant_id))
            events = reading.read(session, tenant_id, begin, self._events)
            if not events:
                return None
            accepted, delivered = (
                {one.message_id for one in events if one.kind == kind and one.message_id is not None}
                for kind in (ACCEPTED, DELIVERED)
            )
            facts = repo.facts(session, tenant_id, accepted, delivered)
        return Read(begin, events[-1].position, since, sums(events, facts, since), len(events))

    def _keep(self, tenant_id: UUID, read: Read) -> bool:
        """Add the sums and move the cursor in one commit; return False if another process did so before."""
        now = datetime.now(UTC).timestamp()
        days = {row.start - row.start % DAY for row in read.sums}
        with self._database.write() as session:
            place, since = locked(session, tenant_id)
            if (place, since) != (read.begin, read.since):
                self._leased.pop(tenant_id, None)
                return False
            told = admitted(read.sums, repo.labels(session, tenant_id, days), self._labels)
            repo.add(session, tenant_id, {row: its for row, its in told.items() if self._is_kept(row, now)})
            cursors.move(session, tenant_id, CURSOR, read.end)
        return True

    def _is_kept(self, row: RollupRow, now: float) -> bool:
        oldest = self._kept.since(row.interval, now)
        return oldest is None or row.start >= oldest


def lease(session: Session, tenant_id: UUID, owner: UUID) -> bool:
    """Take or renew the lease on a tenant's statistics; return whether it is ours."""
    insert = postgresql.insert if dialect_of(session) == "postgresql" else sqlite.insert
    statement: Any = insert(READERS).values(tenant_id=tenant_id, owner=owner, lease_until=db_now(LEASE_SECONDS))
    free = or_(_R.owner.is_(None), _R.owner == owner, _R.lease_until.is_(None), _R.lease_until < db_now())
    taken = statement.on_conflict_do_update(
        index_elements=[_R.tenant_id], set_={"owner": owner, "lease_until": db_now(LEASE_SECONDS)}, where=free
    )
    return session.execute(taken.returning(_R.tenant_id)).first() is not None


def locked(session: Session, tenant_id: UUID) -> tuple[Position, int | None]:
    """Lock a tenant's row, without which its cursor does not move. Return the cursor's place, and ``since``.

    The row must exist: :func:`lease` makes it.
    """
    since = session.execute(select(_R.since).where(_R.tenant_id == tenant_id).with_for_update()).scalar_one()
    return cursors.place(session, tenant_id, CURSOR) or START, since
