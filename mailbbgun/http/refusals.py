"""Log lines about refused requests.

Their number is limited, or strangers could fill the disk. If lines are left out, another line says
how many.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

#: Seconds of a window in which lines are counted.
SECONDS = 60.0

#: Lines in a window, of one event and about all addresses together. Each event has its own bound, so
#: many refused requests do not hide that an address is locked.
MOST = 100

#: Lines in a window, of one kind and about one address.
MOST_OF_ONE = 5

log = logging.getLogger("mailbbgun.doors")


class Refusals:
    """Writes and counts these lines. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seconds: float = SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._written: Counter[str] = Counter()  # event → lines
        self._counts: Counter[tuple[str, str]] = Counter()  # (kind, address) → lines
        self._left_out = 0
        self._timer: threading.Timer | None = None

    def tell(
        self,
        kind: str,
        about: str,
        fields: Mapping[str, object],
        *,
        most: int = MOST_OF_ONE,
        event: str = "request_refused",
    ) -> None:
        """Write a line about an address.

        Only counts it if this window already has ``most`` lines of that kind about that address,
        or :data:`MOST` lines of that event.
        """
        with self._lock:
            now = self._clock()
            if now - self._began >= self._seconds:
                self._begin(now)
            written = self._counts.get((kind, about), 0) < most and self._written[event] < MOST
            if written:
                self._counts[kind, about] += 1
                self._written[event] += 1
            else:
                self._left_out += 1
                self._tell_later(now)
        if written:
            log.warning(event, extra=dict(fields))

    def close(self) -> None:
        """End the window, and log how many lines were left out."""
        with self._lock:
            self._begin(self._clock())

    def _begin(self, now: float) -> None:
        """Begin a new window. The caller holds the lock."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._left_out:
            log.warning("refusals_left_out", extra={"count": self._left_out, "seconds": round(self._seconds)})
        self._began, self._left_out = now, 0
        self._written.clear()
        self._counts.clear()

    def _tell_later(self, now: float) -> None:
        """Start a timer that ends the window, even if nothing more is refused.

        The caller holds the lock.
        """
        if self._timer is None:
            self._timer = threading.Timer(max(self._began + self._seconds - now, 0.0), self.close)
            self._timer.daemon = True
            self._timer.start()
