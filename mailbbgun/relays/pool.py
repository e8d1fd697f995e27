"""Connections kept open between messages, for all threads of a process."""

import threading
from collections.abc import Callable, Iterable
from time import monotonic

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.limits import KnownLimits


class Pool:
    """Hands out connections and takes them back. Thread-safe; not to be carried over a fork.

    `helo` is the name we greet with. A connection carries at most `max_messages` and is used for
    `max_age` seconds; it is closed when idle for `idle` seconds. At most `keep` idle ones are held,
    the longest idle go first. `known` is what servers were found to take.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        helo: str,
        max_messages: int = 100,
        max_age: float = 300.0,
        idle: float = 30.0,
        clock: Callable[[], float] = monotonic,
        keep: int = 200,
    ) -> None:
        self._timeouts = timeouts
        self._helo = helo
        self._max_messages = max_messages
        self._max_age = max_age
        self._idle = idle
        self._clock = clock
        self._keep = keep
        self.known = KnownLimits(clock)
        self._lock = threading.Lock()
        self._kept: dict[Endpoint, list[SMTPConnection]] = {}
        self._count = 0
        self._closed = False

    def checkout(self, endpoint: Endpoint) -> SMTPConnection:
        """A connection to `endpoint` for the calling thread alone, kept or fresh.

        Raises `opening.CannotOpen`.
        """
        while (connection := self._kept_one(endpoint)) is not None:
            if self._fit(connection) and connection.alive():
                return connection
            self._part([connection])
        return self.fresh(endpoint)

    def fresh(self, endpoint: Endpoint) -> SMTPConnection:
        """A new connection, whatever is kept. Raises `opening.CannotOpen`."""
        return SMTPConnection.open(endpoint, self._helo, self._timeouts, self._clock)

    def checkin(self, connection: SMTPConnection) -> None:
        """Gives a connection back; one that is worn out or broken is closed."""
        surplus = [connection]
        with self._lock:
            if self._fit(connection) and not self._closed and self._keep > 0:
                surplus = self._take(1, lambda _: True) if self._count >= self._keep else []
                self._kept.setdefault(connection.endpoint, []).append(connection)
                self._count += 1
        self._part(surplus)

    def reap(self) -> int:
        """Closes what was idle too long; to be called every few seconds. How many were closed."""
        with self._lock:
            worn = self._take(self._count, lambda kept: not self._fit(kept))
        self._part(worn)
        return len(worn)

    def close_all(self) -> None:
        """Closes what is kept, and from now on whatever is given back."""
        with self._lock:
            self._closed = True
            kept = self._take(self._count, lambda _: True)
        self._part(kept)

    def _kept_one(self, endpoint: Endpoint) -> SMTPConnection | None:
        with self._lock:
            kept = self._kept.get(endpoint)
            if not kept:
                return None
            self._count -= 1
            connection = kept.pop()  # the warmest; the others may go idle and be reaped
            if not kept:
                del self._kept[endpoint]
            return connection

    def _fit(self, connection: SMTPConnection) -> bool:
        now = self._clock()
        return (
            connection.usable
            and connection.sent < self._max_messages
            and now - connection.opened < self._max_age
            and now - connection.last_used < self._idle
        )

    def _take(self, most: int, wanted: Callable[[SMTPConnection], bool]) -> list[SMTPConnection]:
        """Removes up to `most` connections that are `wanted`, longest idle first.

        The lock is held.
        """
        kept = sorted((c for group in self._kept.values() for c in group if wanted(c)), key=lambda c: c.last_used)
        for connection in kept[:most]:
            group = self._kept[connection.endpoint]
            group.remove(connection)
            if not group:
                del self._kept[connection.endpoint]
            self._count -= 1
        return kept[:most]

    def _part(self, connections: Iterable[SMTPConnection]) -> None:
        """Says QUIT to all, then waits for the answers together: silent servers cost one time
        limit, not one each.
        """
        parting = list(connections)
        for connection in parting:
            connection.send_quit()
        deadline = monotonic() + self._timeouts.quit
        for connection in parting:
            connection.await_quit_reply(deadline)
