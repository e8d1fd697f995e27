"""When mail that cannot go now comes back: what shares a way comes one after the other, however much of it there is."""

import threading

from mailbbgun.core.clock import Clock

PACE_SECONDS = 0.01  # seconds between one and the next: a backlog of any size comes back at no more than 100 a second


class ComeBackTimes:
    """Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_due: dict[str, float] = {}  # route → when the last that was put off is due again, boot-clock seconds

    def due_in(self, route: str, least: float) -> float:
        """Return in how many seconds the next of a route is due again: ``least``, or later."""
        with self._lock:
            now = self._clock.boot()
            due = max(now + least, self._last_due.get(route, 0.0) + PACE_SECONDS)
            if route not in self._last_due:
                self._last_due = {one: last for one, last in self._last_due.items() if last > now}
            self._last_due[route] = due
            return due - now
