"""The lines in which transactions wait: one for each lane, route and tenant.

Lengths are kept up to date, not counted anew: only :meth:`Lines.all_keys` and :meth:`Lines.routes`
grow with the number of routes.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Generic, TypeVar
from uuid import UUID

from mailbbgun.queues.lanes import LANES
from mailbbgun.routing.protocols import Queued

Key = tuple[str, UUID]  # route, tenant
T = TypeVar("T")
Q = TypeVar("Q", bound=Queued)


class Lines(Generic[Q]):
    """Not thread-safe. ``by_lane`` has the lines of each lane, the one whose turn is next first."""

    def __init__(self) -> None:
        self.by_lane: dict[str, dict[Key, deque[Q]]] = {lane: {} for lane in LANES}
        self._lengths: Counter[str] = Counter()  # by route
        self._keys: dict[str, dict[Key, None]] = {}  # by route: of its lines, in any lane

    def add(self, transaction: Q) -> None:
        """Put a transaction at the end of its line."""
        key = transaction.route, transaction.tenant_id
        self.by_lane[transaction.lane].setdefault(key, deque()).append(transaction)
        self._lengths[transaction.route] += 1
        self._keys.setdefault(transaction.route, {})[key] = None

    def pop(self, lane: str, key: Key) -> Q:
        """Take the head of a line. The rest of the line has its next turn after the others."""
        lines = self.by_lane[lane]
        line = lines.pop(key)
        transaction = line.popleft()
        if line:
            lines[key] = line
        self._removed(key, 1)
        return transaction

    def of(self, route: str) -> list[tuple[str, Key]]:
        """Return lane and key of each line of a route, the highest lane first."""
        keys = self._keys.get(route, {})
        return [(lane, key) for lane, lines in self.by_lane.items() for key in keys if key in lines]

    def routes(self) -> list[str]:
        """Return the routes that something waits for."""
        return list(self._keys)

    def all_keys(self) -> Iterator[Key]:
        """Return the keys of all lines; one that has a line in several lanes comes several times."""
        return (key for lines in self.by_lane.values() for key in lines)

    def length(self, route: str) -> int:
        """Return how many transactions wait for a route."""
        return self._lengths.get(route, 0)

    def waiting_since(self, route: str) -> float:
        """Return when the oldest head of a route's lines came, in monotonic seconds."""
        return min(self.by_lane[lane][key][0].lined_up for lane, key in self.of(route))

    def keep(self, lane: str, key: Key, stay: list[Q]) -> list[Q]:
        """Let only ``stay``, some of its transactions, remain in a line; return the others."""
        line, kept = self.by_lane[lane].pop(key), set(map(id, stay))
        removed = [one for one in line if id(one) not in kept]
        if stay:
            self.by_lane[lane][key] = deque(stay)
        self._removed(key, len(removed))
        return removed

    def _removed(self, key: Key, count: int) -> None:
        route = key[0]
        decrement(self._lengths, route, count)
        if not any(key in lines for lines in self.by_lane.values()):
            keys = self._keys[route]
            del keys[key]
            if not keys:
                del self._keys[route]


def decrement(counts: Counter[T], what: T, by: int = 1) -> bool:
    """Count less; return whether none is left."""
    counts[what] -= by
    if counts[what]:
        return False
    del counts[what]
    return True
