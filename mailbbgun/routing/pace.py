"""How fast a route takes mail."""

#: Seconds over which the pace of a route is measured.
WINDOW = 4.0


class Throughput:
    """How many transactions of a route left in a second, lately. Times are monotonic seconds."""

    __slots__ = ("_before", "_began", "_count")

    def __init__(self, now: float) -> None:
        self._began = now
        self._count = 0
        self._before: float | None = None  # pace of the window before; None in the first window

    def went(self, now: float) -> None:
        """Count one transaction."""
        if now - self._began >= WINDOW:
            self._before, self._began, self._count = self.at(now), now, 0
        self._count += 1

    def at(self, now: float) -> float:
        """Return the transactions a second."""
        # Transactions may leave in bursts, as when all connections are answered at once. A burst at
        # the start of a window must not count as the pace of the route: too many would stay in
        # line, and nothing else would have room.
        elapsed = now - self._began
        if self._before is None:
            return self._count / (elapsed if elapsed >= WINDOW / 4 else WINDOW)
        return self._before * max(0.0, 1.0 - elapsed / WINDOW) + self._count / max(elapsed, WINDOW)
