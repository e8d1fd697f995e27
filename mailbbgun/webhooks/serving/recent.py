"""The events that were read last of each tenant's log: endpoints of one tenant share a read, and its events. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from mailbbgun.events.reading import Position
from mailbbgun.webhooks.sending import SharedEvent

#: Events that are kept of a tenant. An endpoint that is further behind reads for itself.
MOST = 400
#: Events of all tenants after which all are forgotten. Each has about 2 KB.
MOST_OF_ALL = 20_000


class KnownEvents(NamedTuple):
    """Events that need not be read. ``limit`` is larger than their number if the log had no more."""

    events: Sequence[SharedEvent]
    limit: int


class _Window:
    """Events of a tenant without a gap: ``places`` has the place before them, and that of each."""

    def __init__(self, place: Position) -> None:
        self.places = [place]
        self.events: list[SharedEvent] = []
        self.to_the_end = False
        self.used = True  # since the last look


class RecentEvents:
    """Events of tenants, by their place in the log."""

    def __init__(self) -> None:
        self._windows: dict[UUID, _Window] = {}

    def after(self, tenant_id: UUID, place: Position, limit: int) -> KnownEvents | None:
        """Return up to ``limit`` events after a place, at least one; None if they must be read."""
        window = self._windows.get(tenant_id)
        if window is None:
            return None
        first = bisect_left(window.places, place)
        if first >= len(window.events) or window.places[first] != place:
            return None
        found = window.events[first : first + limit]
        last = first + len(found) == len(window.events)
        return KnownEvents(found, len(found) + (1 if last and window.to_the_end else 0))

    def add(self, tenant_id: UUID, after: Position, events: Sequence[SharedEvent], *, to_the_end: bool) -> None:
        """Keep the events that were read after a place."""
        window = self._windows.get(tenant_id)
        if window is None or window.places[-1] != after:
            if not events:
                return
            window = self._windows[tenant_id] = _Window(after)
        window.events += events
        window.places += [one.position for one in events]
        surplus = max(0, len(window.events) - MOST)
        del window.events[:surplus], window.places[:surplus]
        window.to_the_end, window.used = to_the_end, True

    def forget(self) -> None:
        """Forget the events of tenants to which none was added since the last call; of all, if they are too many."""
        self._windows = {tenant: window for tenant, window in self._windows.items() if window.used}
        if sum(len(window.events) for window in self._windows.values()) > MOST_OF_ALL:
            self._windows.clear()
        for window in self._windows.values():
            window.used = False
