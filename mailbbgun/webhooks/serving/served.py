"""The state of one endpoint in the worker process that serves it, and what each answer changes in it."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import randrange
from uuid import UUID

from mailbbgun.events.reading import LoggedEvent, Position
from mailbbgun.webhooks.sending import SentRequest, SharedEvent, WebhookTarget, request_id
from mailbbgun.webhooks.serving.track import EventState, Item, Track
from mailbbgun.webhooks.verdict import FAILURES, WebhookVerdict, pause_seconds, verdict, why_stopped

#: Requests at once to an endpoint that answers soon, and to one that does not or is not known yet.
AT_ONCE, AT_ONCE_IF_SLOW = 8, 2
#: Seconds: an answer that takes longer is slow.
SLOW = 1.0
#: Requests that try a paused endpoint. Two, since one event may be what it cannot take.
PROBES = 2


@dataclass(slots=True)
class EndpointChanges:
    """What is to be written about an endpoint."""

    attempts: list[tuple[Item, SentRequest]] = field(default_factory=list)  # that failed
    retries: dict[UUID, Item] = field(default_factory=dict)  # request id → an event that failed by itself
    ended: set[UUID] = field(default_factory=set)  # request ids of retries that are over
    state: bool = False  # whether it is failing, and its pauses, have changed
    done: int = 0  # acknowledged events


class Served:
    """An endpoint that this process serves. Only the thread ``webhooks`` uses it."""

    def __init__(
        self,
        to: WebhookTarget,
        tenant_id: UUID,
        lease: int,
        track: Track,
        *,
        failing_since: datetime | None = None,
        pauses: int = 0,
        paused_until: datetime | None = None,
    ) -> None:
        self.to, self.tenant_id, self.lease, self.main = to, tenant_id, lease, track
        self.kinds: frozenset[str] = frozenset()
        self.test = False
        self.updated_at: datetime | None = None
        self.replay: Track | None = None
        self.replay_id: UUID | None = None
        self.replay_times: tuple[datetime, datetime] | None = None
        self.retrying: dict[UUID, Item] = {}  # request id → retries in hand
        self.waiting: deque[Item] = deque()
        self.in_flight = 0
        self.slow = True  # until it has shown otherwise
        self.failed: list[Item] = []
        self.failed_ids: set[UUID] = set()
        self.failing_since, self.pauses, self.paused_until = failing_since, pauses, paused_until
        self.stopped: str | None = None  # why it is to be disabled
        self.changes = EndpointChanges()

    @property
    def paused(self) -> bool:
        """Whether it is taken to fail as a whole."""
        return self.paused_until is not None

    @property
    def paused_now(self) -> bool:
        """Whether its pause is not over."""
        return self.paused_until is not None and datetime.now(UTC) < self.paused_until

    @property
    def tracks(self) -> list[Track]:
        """Its places in the log: its own, and that of a replay."""
        return [self.main] if self.replay is None else [self.main, self.replay]

    def wants(self, event: LoggedEvent) -> bool:
        """Return whether an event is to be sent."""
        return event.test == self.test and (not self.kinds or event.kind.value in self.kinds)

    def add(self, items: Iterable[Item]) -> None:
        """Let events wait for their turn."""
        self.waiting.extend(items)

    def read(self, track: Track, events: Sequence[SharedEvent], limit: int, searched: Position | None = None) -> None:
        """Note what a read has found, see :meth:`Track.add`, and let those events wait that are to be sent."""
        self.add(track.add(events, [self.wants(event) for event in events], limit, searched))

    def slots(self, now: datetime) -> int:
        """Return how many more requests may begin now."""
        if self.stopped is not None or not self.waiting:
            return 0
        if self.paused_until is not None:
            return 0 if self.in_flight or now < self.paused_until else min(PROBES, len(self.waiting))
        return max(0, (AT_ONCE_IF_SLOW if self.slow else AT_ONCE) - self.in_flight)

    def take(self, most: int) -> list[Item]:
        """Return the next events to send, one after the other by one connection. Its first event may be any if
        the endpoint is paused, so that one that it cannot take does not keep it paused.
        """
        if self.paused:
            self.waiting.rotate(-randrange(len(self.waiting)) if self.in_flight else 0)
        taken = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
        for one in taken:
            one.state = EventState.SENDING
        self.in_flight += 1
        return taken

    def returned(
        self, tried: Sequence[tuple[Item, SentRequest]], left: Sequence[Item], days: int, to: WebhookTarget
    ) -> None:
        """Note what became of events that :meth:`take` gave, and that were sent ``to`` this.

        If a person has changed the endpoint meanwhile, a failure says nothing of it: the event is sent again.
        """
        self.in_flight -= 1
        for one in left:
            one.state = EventState.WAITING
        self.waiting.extendleft(reversed(left))
        for item, result in tried:
            if to.changed_at == self.updated_at or verdict(result) is WebhookVerdict.DONE:
                self._tried(item, result, days)
            else:
                self.changes.attempts.append((item, result))
                item.state = EventState.WAITING
                self.waiting.appendleft(item)
        if self.paused and not self.in_flight:
            self.rest()

    def settle(self) -> None:
        """Keep events as retries that failed while nothing shows that the endpoint fails as a whole."""
        if self.failed and not self.waiting and not self.in_flight and not self.paused:
            self._failed_by_themselves()

    def _tried(self, item: Item, result: SentRequest, days: int) -> None:
        meant = verdict(result)
        self.slow = result.seconds > SLOW or meant is not WebhookVerdict.DONE
        if meant is WebhookVerdict.DONE:
            return self._done(item)
        now = datetime.now(UTC)
        self.changes.attempts.append((item, result))
        if self.failing_since is None:
            self.failing_since, self.changes.state = now, True
        if meant is WebhookVerdict.STOP:
            self.stopped, item.state = why_stopped(result), EventState.WAITING
            return None
        item.state = EventState.FAILED
        self.failed.append(item)
        self.failed_ids.add(item.event.id)
        was_probe = self.paused_until is not None and now >= self.paused_until
        if meant is WebhookVerdict.PAUSE or len(self.failed_ids) >= FAILURES or self.paused:
            self._back_to_waiting()
            if (not self.paused or was_probe) and not (self.paused and self.in_flight):
                self._pause(result, now)
        if now - self.failing_since > timedelta(days=days):
            self.stopped = f"it has acknowledged nothing for {days} days"
        return None

    def _done(self, item: Item) -> None:
        item.state = EventState.DONE
        self.changes.done += 1
        if self.failing_since is not None or self.paused:
            self.failing_since, self.paused_until, self.pauses, self.changes.state = None, None, 0, True
        self.failed_ids.clear()
        if item.cause == "retry":
            self._end_retry(item)
        if self.failed:
            self._failed_by_themselves()

    def _pause(self, result: SentRequest, now: datetime) -> None:
        self.paused_until = now + timedelta(seconds=pause_seconds(self.pauses, result, now))
        self.pauses += 1
        self.changes.state = True

    def rest(self) -> None:
        """Give back the memory of events that wait, while the endpoint is paused."""
        for track in self.tracks:
            track.trim()
        kept = {id(one) for track in self.tracks for one in track.items}
        self.waiting = deque(one for one in self.waiting if one.cause == "retry" or id(one) in kept)

    def end(self) -> None:
        """Keep as retries the events that are not done although later ones are, so that these are not sent again."""
        for track in self.tracks:
            for one in list(track.overtaken()):
                self.changes.retries[request_id(self.to.endpoint_id, one.event.id)] = one
                one.state = EventState.DONE

    def _back_to_waiting(self) -> None:
        for one in self.failed:
            one.state = EventState.WAITING
        self.waiting.extendleft(reversed(self.failed))
        self.failed.clear()

    def _failed_by_themselves(self) -> None:
        for one in self.failed:
            identifier = request_id(self.to.endpoint_id, one.event.id)
            self.changes.retries[identifier] = one
            self.retrying.pop(identifier, None)
            one.state = EventState.DONE
        self.failed.clear()

    def _end_retry(self, item: Item) -> None:
        identifier = request_id(self.to.endpoint_id, item.event.id)
        self.retrying.pop(identifier, None)
        self.changes.ended.add(identifier)
