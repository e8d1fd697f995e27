"""When deliveries that cannot be sent now come back.

Deliveries of one route come back one after the other, however many there are.
"""

import threading

from mailbbgun.core.clock import Clock

#: Seconds between two deliveries of a route: no backlog comes back faster than 100 a second.
PACE_SECONDS = 0.01


class ComeBackTimes:
    """Remembers for each route when the last delivery put off comes back. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_due: dict[str, float] = {}  # route → when its last one comes back; boot-clock seconds

    def due_in(self, route: str, least: float) -> float:
        """Return in how many seconds the next delivery of a route comes back: ``least`` or more."""
        with self._lock:
            now = self._clock.boot()
            due = max(now + least, self._last_due.get(route, 0.0) + PACE_SECONDS)
            if route not in self._last_due:
                self._last_due = {one: last for one, last in self._last_due.items() if last > now}
            self._last_due[route] = due
            return due - now
