"""Counts requests of the last minute in the memory of this process.

The window moves with time, so no sixty seconds have more requests than the limit, whenever they
begin. The counter is our own. That of the library ``limits`` starts a thread with nearly every
request (0.2 ms), never forgets a name, and uses a clock that can be set.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from mailbbgun.http.gate import Standing

#: The length of the window, in seconds.
WINDOW = 60
#: How many names are remembered. Beyond that the one without a request for longest is forgotten.
MOST_NAMES = 10_000


class MemoryWindows:
    """Counts by name. Thread-safe, and never waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()  # the most recent name is last

    def hit(self, name: str, limit: int, processes: int = 1) -> Standing:
        """Count a request if our share of the limit allows it, and return how the name stands.

        The share is the limit divided by the number of processes, at least one.
        """
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
        """Return how the name would stand with one more request. Counts nothing."""
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
        """Forget up to two names: idle ones, or the one idle for longest if there are too many."""
        for _ in range(2):  # a hit adds at most one name, so the number of names falls
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
    """Return in how many seconds a request leaves the window that was made ``age`` seconds ago."""
    # Redis rounds times to a tenth of a millisecond, so an age may be negative.
    return min(max(WINDOW - age, 0.0), WINDOW)
