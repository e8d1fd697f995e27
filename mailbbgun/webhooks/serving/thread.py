"""The thread ``webhooks`` of the process that sends webhooks: it serves endpoints that it has leased.

It reads the log behind each endpoint's place, gives events to the senders, and writes how far each endpoint is. The
place moves after the answer. So after a crash some events are sent again, with the ``webhook-id`` they had.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from mailbbgun.core.errors import DatabaseUnavailable, SecretUnreadable
from mailbbgun.counters.families import WEBHOOKS
from mailbbgun.events.reading import Position, tenants_with_events_after
from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.services import Services
from mailbbgun.webhooks.sending import SharedEvent, WebhookTarget, keys_of
from mailbbgun.webhooks.serving import progress
from mailbbgun.webhooks.serving.alone import LeftAlone
from mailbbgun.webhooks.serving.pace import Pace
from mailbbgun.webhooks.serving.recent import RecentEvents
from mailbbgun.webhooks.serving.senders import MOST, MOST_SLOW, Senders, SendResult, Work
from mailbbgun.webhooks.serving.served import AT_ONCE, PROBES, EndpointChanges, Served
from mailbbgun.webhooks.serving.track import Item, Track
from mailbbgun.webhooks.verdict import verdict

#: Seconds between two looks into the log, and between two looks at endpoints, retries and replays.
TICK, LOOK = 0.05, 1.0
#: Seconds of a tick for each tenant with an endpoint: a thousand tenants are looked at ten times a second.
TICK_OF_TENANT = 0.0001
#: Seconds between two writes of places. SQLite has one writer, and mail waits for it while this process, whose priority
#: is low, waits for a core; so it writes rarely.
FLUSH = 0.5
#: Events of one read; no more are read while so many wait, or are behind one that has no answer yet.
BATCH, LOW, MOST_BEYOND = 100, 50, 400
#: Most events that one connection gets in a row, and most requests at once of one tenant.
IN_A_ROW, AT_ONCE_OF_TENANT = 16, 2 * AT_ONCE
#: Seconds for which an endpoint is leased, at most LEASE_SECONDS, and between two rounds of forgetting.
LEASE, FORGET = 20, 60.0
#: Seconds to wait for answers at shutdown.
LAST_ANSWERS = 5.0

log = logging.getLogger("mailbbgun.webhooks")


class WebhookServing:
    """Serves the endpoints that this process has leased."""

    def __init__(self, services: Services, owner: UUID, stop: threading.Event) -> None:
        settings = services.settings
        self._services, self._db, self._owner, self._stop = services, services.db, owner, stop
        self._client = HTTPClient.permitting(settings.ALLOW_PRIVATE_HOSTS, settings.HTTP_CA_FILE)
        self._results: queue.SimpleQueue[SendResult] = queue.SimpleQueue()
        self._senders = Senders(self._client, self._results.put)
        self._served: dict[UUID, Served] = {}
        self._lease, self._days = min(LEASE, settings.LEASE_SECONDS), settings.WEBHOOK_DAYS
        self._alone, self._recent = LeftAlone(), RecentEvents()
        self._next_look = self._next_tick = self._next_fill = self._next_flush = self._next_lease = 0.0
        self._next_forget = 0.0

    def run(self) -> None:
        """Serve endpoints until told to stop, then write what is known and give them back."""
        pace = Pace()
        while not self._stop.is_set():
            self._wait()
            self._guarded(self._turn)
            self._stop.wait(pace.rest())
        end = time.monotonic() + LAST_ANSWERS
        while self._senders.busy and time.monotonic() < end:
            self._take_results(0.1)
        for one in self._served.values():
            one.end()
        self._guarded(self._give_back)
        self._client.close()

    def _give_back(self) -> None:
        self._flush()
        with self._db.write() as session:
            progress.release(session, self._owner)

    def _guarded(self, do: Callable[[], None]) -> None:
        try:
            do()
            self._services.outages.worked("database", "webhooks")
        except DatabaseUnavailable as error:
            self._services.outages.failed("webhooks", error)
            self._stop.wait(LOOK)
        except Exception:  # it ends neither the thread nor the process, which serves other endpoints, too
            log.exception("webhooks_failed", extra={"retry_in": LOOK})
            self._stop.wait(LOOK)

    def _wait(self) -> None:
        due = min(self._next_look, self._next_tick) if self._served else self._next_look
        if any(one.changes.done or one.changes.state or one.changes.attempts for one in self._served.values()):
            due = min(due, self._next_flush)
        if any(self._may_read(one, track) for one in self._served.values() if not one.paused for track in one.tracks):
            due = min(due, self._next_fill)
        self._take_results(max(0.0, due - time.monotonic()))

    def _take_results(self, seconds: float) -> None:
        """Wait for results for so long at most, and take all that there are."""
        try:
            result = self._results.get(timeout=min(seconds, LOOK)) if seconds else self._results.get_nowait()
            while True:
                self._senders.busy -= 1
                self._returned(result)
                for shown, n in Counter(verdict(one).counted_as for _, one in result.tried).items():
                    self._services.counters.add(WEBHOOKS, shown, n=n)
                result = self._results.get_nowait()
        except queue.Empty:
            return

    def _returned(self, result: SendResult) -> None:
        one = result.served
        its = partial(one.returned, result.tried, result.left, self._days, result.to)
        if one.to.endpoint_id in self._served and not self._alone.do((one.to.endpoint_id, "endpoint"), its):
            self._served.pop(one.to.endpoint_id, None)  # it begins again at its place

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_flush or now >= self._next_look:
            self._flush()
            self._next_flush = time.monotonic() + FLUSH
        if now >= self._next_look:
            self._look()
            self._next_look = time.monotonic() + LOOK
        if now >= self._next_tick:
            tenants = self._find()
            self._next_tick = time.monotonic() + max(TICK, TICK_OF_TENANT * tenants)
        self._fill()
        self._dispatch()

    # Endpoints.

    def _look(self) -> None:
        """Lease endpoints, note changes of them, and read retries and replays that are due."""
        now = time.monotonic()
        self._recent.forget()
        with self._db.read() as session:
            free = progress.any_free(session)
        if free or now >= min(self._next_lease, self._next_forget):
            self._look_after_leases(now)
        with self._db.read() as session:
            held = progress.held(session, self._owner)
            changed = [one for one, (lease, at) in held.items() if self._differs(one, lease, at)]
            rows = progress.endpoints(session, changed) if changed else []
            able = [one for one in held if one in self._served and not self._served[one].paused_now]
            retries = progress.due_retries(session, able) if able else []
            replays = progress.replays(session, self._owner) if held else []
        self._give_up(self._served.keys() - held.keys())
        for row in rows:
            self._alone.do((row.id, "endpoint"), partial(self._take, row))
        for row in retries:
            self._alone.do((row.id, "retry"), partial(self._retry, row))
        self._take_replays(replays)

    def _look_after_leases(self, now: float) -> None:
        with self._db.write() as session:
            if now >= self._next_lease:
                progress.prolong(session, self._owner, self._lease)
                self._next_lease = now + self._lease / 4
            progress.claim(session, self._owner, self._lease)
            if now >= self._next_forget:
                self._next_forget = now + FORGET
                progress.forget_attempts(session, self._services.settings.WEBHOOK_LOG_DAYS)
                for identifier in self._served:
                    progress.forget_surplus(session, identifier)

    def _give_up(self, gone: Collection[UUID]) -> None:
        """Serve these no more: they were disabled or deleted, or another worker has them."""
        if not gone:
            return
        for identifier in gone:
            self._served[identifier].end()
        self._flush()
        for identifier in gone:
            self._served.pop(identifier, None)
        with self._db.write() as session:
            progress.release_disabled(session, self._owner)

    def _differs(self, identifier: UUID, lease: int, updated_at: datetime) -> bool:
        known = self._served.get(identifier)
        rotated = known is not None and len(known.to.keys) > 1  # the second secret ends by itself
        return known is None or rotated or (known.lease, known.updated_at) != (lease, updated_at)

    def _take(self, row: Row[Any]) -> None:
        try:
            to = WebhookTarget(row.id, row.url, keys_of(self._services.vault, row, datetime.now(UTC)), row.updated_at)
        except SecretUnreadable as error:
            log.warning("webhook_unreadable", extra={"endpoint_id": row.id, "error": str(error)})
            return
        known = self._served.get(row.id)
        if known is None or known.lease != row.attempt:
            track = Track(Position(row.position, row.event_id), "event")
            state = {"failing_since": row.failing_since, "pauses": row.pauses, "paused_until": row.paused_until}
            known = self._served[row.id] = Served(to, row.tenant_id, row.attempt, track, **state)
        elif known.updated_at != row.updated_at:  # a person changed it, who may have mended the receiver
            known.failing_since, known.pauses, known.paused_until = row.failing_since, row.pauses, row.paused_until
        known.to, known.kinds, known.test, known.updated_at = to, frozenset(row.kinds), row.test, row.updated_at

    def _retry(self, row: Row[Any]) -> None:
        one = self._served.get(row.endpoint_id)
        if one is None or row.id in one.retrying:
            return
        place = Position(row.position, row.event_id)
        with self._db.read(row.tenant_id) as session:
            event = progress.event_at(session, row.tenant_id, place)
        if event is None:  # its retention has ended
            one.changes.ended.add(row.id)
            return
        one.retrying[row.id] = item = Item(SharedEvent(*event), place, "retry", row.tries)
        one.add([item])

    def _take_replays(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            one = self._served.get(row.endpoint_id)
            if one is not None and one.replay is None:
                until = Position(row.until_position, row.until_event_id)
                one.replay = Track(Position(row.position, row.event_id), "replay", until)
                one.replay_id, one.replay_times = row.id, (row.from_at, row.to_at)

    # Events.

    def _find(self) -> int:
        """Look which tenants have new events; return how many were looked at."""
        places: dict[UUID, Position] = {}
        idle = [one for one in self._served.values() if one.main.exhausted and not one.paused]
        for one in idle:
            places[one.tenant_id] = min(places.get(one.tenant_id, one.main.read_to), one.main.read_to)
        if places:
            with self._db.read() as session:
                found = set(tenants_with_events_after(session, places))
            for one in idle:
                one.main.exhausted = one.tenant_id not in found
        return len(places)

    def _fill(self) -> None:
        """Read events for endpoints that have few waiting. A paused one gets only those that try it."""
        now, began = datetime.now(UTC), time.monotonic()
        for one in self._served.values():
            paused = one.paused_until is not None
            if one.paused_until is not None and (now < one.paused_until or one.waiting or one.in_flight):
                continue
            for track in one.tracks:
                if self._may_read(one, track):
                    read_ = partial(self._read, one, track, PROBES * 2 if paused else BATCH)
                    self._alone.do((one.to.endpoint_id, track.cause), read_)
            one.settle()
            if paused and not one.waiting:  # nothing is there to try it with; the next failure pauses it again
                one.paused_until = None
        ended = time.monotonic()
        self._next_fill = ended + (ended - began)  # who is far behind leaves half the time to others

    def _may_read(self, one: Served, track: Track) -> bool:
        more = not track.exhausted and len(one.waiting) < LOW and len(track.items) < MOST_BEYOND
        return more and not self._alone.holds((one.to.endpoint_id, track.cause))

    def _read(self, one: Served, track: Track, limit: int) -> None:
        if track is one.main and (known := self._recent.after(one.tenant_id, track.read_to, limit)):
            one.read(track, known.events, known.limit)
            return
        with self._db.read(one.tenant_id) as session:
            events, searched = progress.events_after(session, one, track, limit)
        if track is one.main:
            self._recent.add(one.tenant_id, track.read_to, events, to_the_end=len(events) < limit)
        one.read(track, events, limit, searched)

    def _dispatch(self) -> None:
        """Give waiting events to the senders: in turns, and not all of them to slow endpoints."""
        now = datetime.now(UTC)
        active = [one for one in self._served.values() if one.waiting or one.in_flight]
        of_tenant: Counter[UUID] = Counter()
        slow = 0
        for one in active:
            of_tenant[one.tenant_id] += one.in_flight
            slow += one.in_flight if one.slow else 0
        given = True
        while given:
            given = False
            for one in active:
                slots = one.slots(now)
                if not slots or self._senders.busy + PROBES > MOST or of_tenant[one.tenant_id] >= AT_ONCE_OF_TENANT:
                    continue
                if one.slow and slow >= MOST_SLOW:
                    continue
                times = slots if one.paused else 1
                most = 1 if one.slow else max(1, min(IN_A_ROW, len(one.waiting) // slots))
                for _ in range(times):
                    self._senders.give(Work(one, one.to, one.take(most)))
                of_tenant[one.tenant_id] += times
                slow += times if one.slow else 0
                given = True

    # What is written.

    def _flush(self) -> None:
        """Write what has changed of endpoints; forget those that another worker has taken."""
        changed = [one for one in self._served.values() if self._is_changed(one)]
        if not changed:
            return
        with self._db.write() as session:
            ours = progress.still_ours(session, self._owner, changed)
            kept = [one for one in changed if one.to.endpoint_id in ours]
            progress.write(session, kept)
            finished = [one for one in kept if self._is_replayed(one)]
            for one in finished:
                assert one.replay_id is not None
                progress.finish_replay(session, one.replay_id)
            for one in kept:
                if one.stopped is not None:
                    progress.disable(session, one)
        self._flushed(kept, finished)
        for one in changed:
            if one not in kept or one.stopped is not None:
                self._served.pop(one.to.endpoint_id, None)

    @staticmethod
    def _is_changed(one: Served) -> bool:
        its = one.changes
        moved = any(track.place != track.saved for track in one.tracks)
        told = its.attempts or its.retries or its.ended or its.state or one.stopped is not None
        return bool(told) or WebhookServing._is_replayed(one) or (moved and bool(its.done or not one.main.items))

    @staticmethod
    def _is_replayed(one: Served) -> bool:
        return one.replay is not None and one.replay.exhausted and one.replay.place == one.replay.read_to

    @staticmethod
    def _flushed(kept: Collection[Served], finished: Collection[Served]) -> None:
        for one in kept:
            if one.changes.done:
                told = {"endpoint_id": one.to.endpoint_id, "tenant_id": one.tenant_id, "events": one.changes.done}
                log.info("webhooks_delivered", extra=told)
            if one.changes.state and one.paused_until is not None:
                last = one.changes.attempts[-1][1] if one.changes.attempts else None
                said = {"status": last.status, "error": last.error} if last else {}
                log.warning("webhook_paused", extra={"endpoint_id": one.to.endpoint_id, "pauses": one.pauses, **said})
            for track in one.tracks:
                track.saved = track.place
            one.changes = EndpointChanges()
        for one in finished:
            one.replay = one.replay_id = one.replay_times = None
