"""Lets requests wait for events without a thread for each: one thread looks for all of them.

It asks the database once for all tenants that somebody waits for, :data:`LOOK_SECONDS` after it asked before, and
only while somebody waits.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable, RateLimited
from mailbbgun.database.db import Database
from mailbbgun.events.following.pages import PAGE_SECONDS, EventPage, EventQuery, page
from mailbbgun.events.reading import Position, tenants_with_events_after

#: Seconds between two looks.
LOOK_SECONDS = 0.25
#: Requests of one API key that may wait in one process at once, those of one tenant, and all.
MOST_OF_KEY, MOST_OF_TENANT, MOST = 10, 100, 1000
#: Seconds that the database may take for one look. A request that needs longer is ended, and looks by itself.
LONGEST_LOOK = 1.0

log = logging.getLogger("mailbbgun.events")


class EventWait:
    """A request that waits for events: an :class:`~mailbbgun.http.responses.Ending`."""

    def __init__(self, watch: "EventWatch", key: UUID, asked: EventQuery, seconds: float) -> None:
        self._watch, self.key, self.asked = watch, key, asked
        self.until = time.monotonic() + seconds
        self._page: EventPage | None = None
        self._then: Callable[[], None] | None = None
        self._over = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether there are events, or the time is over and nothing failed."""
        return self._page is not None

    def begin(self, then: Callable[[], None]) -> None:
        """Wait from now on, and call ``then`` at the end."""
        self._then = then
        self._watch.add(self)

    def result(self) -> EventPage:
        """Return the events, if there are any by now. A server that waits with a thread waits here.

        Raises :class:`DatabaseUnavailable`.
        """
        if self._then is None:
            self.begin(lambda: None)
            self._over.wait()
        return self._page or self._watch.look(self.asked)

    def end(self, found: EventPage | None) -> None:
        """End the wait; None: nobody could look, so the request looks once more by itself."""
        self._page = found
        self._over.set()
        if self._then is not None:
            self._then()


class EventWatch:
    """The waiting requests of this process. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: list[EventWait] = []
        self._reserved: Counter[UUID] = Counter()  # by key
        self._of_tenants: Counter[UUID] = Counter()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def wait_for(self, key: UUID, asked: EventQuery, seconds: float) -> EventWait:
        """Return a wait that has not begun. Raises :class:`RateLimited` if too many requests wait."""
        with self._lock:
            its = self._reserved[key], self._of_tenants[asked.tenant_id]
            if its[0] >= MOST_OF_KEY or its[1] >= MOST_OF_TENANT or self._reserved.total() >= MOST:
                why = f"At most {MOST_OF_KEY} requests of an API key wait for events at once, "
                why += f"and {MOST_OF_TENANT} of a tenant."
                raise RateLimited(why, limit=MOST_OF_KEY, retry_after=1)
            self._count(key, asked.tenant_id, 1)
        return EventWait(self, key, asked, seconds)

    def add(self, wait: EventWait) -> None:
        """Look for the events of a wait from now on."""
        with self._lock:
            closed = self._closed.is_set()
            self._waiting.append(wait)
            if self._thread is None and not closed:
                thread = threading.Thread(target=self._run, name="event-watch", daemon=True)
                thread.start()
                self._thread = thread
        if closed:
            self._give_up([wait])

    def look(self, asked: EventQuery, seconds: float = PAGE_SECONDS) -> EventPage:
        """Return a page of the log. Raises :class:`DatabaseUnavailable`, and :class:`TookTooLong`."""
        with self._database.read(asked.tenant_id, tests_only=asked.tests_only) as session:
            return page(session, asked, seconds)

    def close(self) -> None:
        """End all waits."""
        self._closed.set()
        for one in self._taken(self._waiting):
            one.end(None)

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            with self._lock:
                waiting = list(self._waiting)
                if not waiting:
                    self._thread = None
                    return
            try:
                self._look_for(waiting)
            except DatabaseUnavailable as error:
                log.debug("event_watch: %s", error)  # who needs the database tells of it
                waiting = [one for one in waiting if one.until <= time.monotonic()]
                self._give_up(waiting)
            except Exception:  # a fault of ours: these answer with it, and later ones are looked for all the same
                log.exception("event_watch_broken")
                self._give_up(waiting)

    def _give_up(self, waiting: list[EventWait]) -> None:
        for one in self._taken(waiting):
            one.end(None)

    def _look_for(self, waiting: list[EventWait]) -> None:
        places: dict[UUID, Position] = {}
        for one in waiting:
            if (place := one.asked.after) is not None:
                places[one.asked.tenant_id] = min(place, places.get(one.asked.tenant_id, place))
        with self._database.read() as session:
            found = set(tenants_with_events_after(session, places))
        now = time.monotonic()
        for one in waiting:
            if one.asked.tenant_id in found or one.until <= now:
                try:
                    seen = self.look(one.asked, LONGEST_LOOK)
                except DatabaseUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - whoever asked gets it; the others go on
                    log.debug("event_watch: %r", error)
                    self._give_up([one])
                    continue
                one.asked = one.asked._replace(after=seen.next)  # what does not match is not looked at again
                if seen.events or one.until <= now:
                    for each in self._taken([one]):
                        each.end(seen)

    def _taken(self, ended: list[EventWait]) -> list[EventWait]:
        """Take these out of the waiting ones; return those that were there."""
        with self._lock:
            gone = [one for one in ended if one in self._waiting]
            self._waiting = [one for one in self._waiting if one not in gone]
            for one in gone:
                self._count(one.key, one.asked.tenant_id, -1)
        return gone

    def _count(self, key: UUID, tenant_id: UUID, change: int) -> None:
        """Count a wait that begins or ends. The lock is held."""
        for counts, its in ((self._reserved, key), (self._of_tenants, tenant_id)):
            counts[its] += change
            if not counts[its]:
                del counts[its]  # else there would be an entry for each key that ever waited
