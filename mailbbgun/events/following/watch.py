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
from mailbbgun.database.deadline import at_most
from mailbbgun.events.following.pages import Asked, Page, page
from mailbbgun.events.reading import Position, tenants_with_events_after

#: Seconds between two looks.
LOOK_SECONDS = 0.25
#: Requests of one API key that may wait in one process at once, and of all.
MOST_OF_KEY, MOST = 10, 1000
#: Seconds that a look for one request may take: others wait behind it.
LONGEST_LOOK = 5.0

log = logging.getLogger("mailbbgun.events")


class EventWait:
    """A request that waits for events: an :class:`~mailbbgun.http.responses.Ending`."""

    def __init__(self, watch: "EventWatch", key: UUID, asked: Asked, seconds: float) -> None:
        self._watch, self.key, self.asked = watch, key, asked
        self.until = time.monotonic() + seconds
        self._page: Page | None = None
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

    def result(self) -> Page:
        """Return the events, if there are any by now. A server that waits with a thread waits here.

        Raises :class:`DatabaseUnavailable`.
        """
        if self._then is None:
            self.begin(lambda: None)
            self._over.wait()
        return self._page or self._watch.look(self.asked)

    def end(self, found: Page | None) -> None:
        """End the wait; None: it could not be found out, so :meth:`result` asks once more."""
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
        self._reserved: Counter[UUID] = Counter()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def wait_for(self, key: UUID, asked: Asked, seconds: float) -> EventWait:
        """Return a wait that has not begun. Raises :class:`RateLimited` if too many requests wait."""
        with self._lock:
            if self._reserved[key] >= MOST_OF_KEY or self._reserved.total() >= MOST:
                why = f"At most {MOST_OF_KEY} requests of an API key wait for events at once."
                raise RateLimited(why, limit=MOST_OF_KEY, retry_after=1)
            self._reserved[key] += 1
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
            self._end([wait])

    def look(self, asked: Asked) -> Page:
        """Return a page of the log. Raises :class:`DatabaseUnavailable`, :class:`TookTooLong`."""
        with (
            self._database.read(asked.tenant_id, tests_only=asked.tests_only) as session,
            at_most(session, LONGEST_LOOK, "It takes the database too long to find events that match."),
        ):
            return page(session, asked)

    def close(self) -> None:
        """End all waits."""
        self._closed.set()
        self._end(self._waiting)

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
                self._end([one for one in waiting if one.until <= time.monotonic()])
            except Exception:  # the thread goes on: all later requests wait by it
                log.exception("event_watch_failed")
                self._end(waiting)

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
                    seen = self.look(one.asked)
                except DatabaseUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - whoever asked gets it; the others go on
                    log.debug("event_watch: %r", error)
                    self._end([one])
                    continue
                one.asked = one.asked._replace(after=seen.next)  # what does not match is not looked at again
                if seen.events or one.until <= now:
                    self._end([one], seen)

    def _end(self, waiting: list[EventWait], found: Page | None = None) -> None:
        for one in self._taken(waiting):
            one.end(found)

    def _taken(self, ended: list[EventWait]) -> list[EventWait]:
        """Take these out of the waiting ones; return those that were there."""
        with self._lock:
            gone = [one for one in ended if one in self._waiting]
            self._waiting = [one for one in self._waiting if one not in gone]
            for one in gone:
                self._reserved[one.key] -= 1
        return gone
