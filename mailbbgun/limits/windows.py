"""How many requests were made in the last minute, counted in this process's memory.

The window moves with each request, so that nothing is gained at the edge of a minute: no sixty seconds,
wherever they begin, have more requests than the limit. This counter is our own: that of the library starts
a thread with nearly every request (0.2 ms), never forgets a name, and goes by a clock that can be set.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from mailbbgun.http.gate import Standing

WINDOW = 60  # seconds
MOST_NAMES = 10_000  # counted in memory; then who was quiet for longest is forgotten


class MemoryWindows:
    """Counts by names, in this process. Thread-safe, and waits for nobody."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()  # who came last is last

    def hit(self, name: str, limit: int, processes: int = 1) -> Standing:
        """Count a request, if our share of the limit allows it."""
        share = max(limit // processes, 1)
        with self._lock:
            now = self._clock()
            moments = self._moments.get(name)
            if moments is None:
                moments = self._moments[name] = deque()
            self._moments.move_to_end(name)
            _forget(moments, now)
            if allowed := len(moments) < share:
                moments.append(now)
            self._forget_quiet(now)
            return _standing(allowed, limit, share, moments, now)

    def look(self, name: str, limit: int, processes: int = 1) -> Standing:
        """Say whether a request would be allowed, and count none."""
        share = max(limit // processes, 1)
        with self._lock:
            now = self._clock()
            moments = self._moments.get(name, deque())
            _forget(moments, now)
            return _standing(len(moments) < share, limit, share, moments, now)

    def __len__(self) -> int:
        """Return how many names are remembered."""
        return len(self._moments)

    def _forget_quiet(self, now: float) -> None:
        for _ in range(2):  # with each hit, which adds one: so they become fewer
            name, moments = next(iter(self._moments.items()))
            if len(self._moments) <= MOST_NAMES and moments and moments[-1] > now - WINDOW:
                return
            if len(self._moments) > 1:
                del self._moments[name]


def _forget(moments: deque[float], now: float) -> None:
    while moments and moments[0] <= now - WINDOW:
        moments.popleft()


def _standing(allowed: bool, limit: int, share: int, moments: deque[float], now: float) -> Standing:
    return Standing(allowed, limit, max(share - len(moments), 0), reset_after(now - moments[0]) if moments else 0.0)


def reset_after(age: float) -> float:
    """Return in how many seconds a window whose first request is so old has room again."""
    return min(
        max(WINDOW - age, 0.0), WINDOW
    )  # Redis rounds moments to a tenth of a millisecond, so that some are to come yet
