"""Keeps connections open between messages, for all transactions of a process."""

from collections.abc import Callable, Iterable
from heapq import nsmallest
from time import monotonic

from mailbbgun.counters.counters import Counters, PhaseTimer
from mailbbgun.counters.families import CONNECTIONS_OPENED
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.server_limits import KnownLimits


class Pool:
    """Hands out connections and takes them back. Used by one driver's thread, and not after a fork.

    `helo` is our name for EHLO. A connection carries at most `max_messages`, is used for at most
    `max_age` seconds, and is closed after `idle` seconds without use. At most `keep` idle
    connections are kept; the one idle for longest is closed first. `known` holds the servers'
    limits of recipients. `counters` time the replies.
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
        counters: Counters | None = None,
    ) -> None:
        self._counters = counters or Counters()
        self._timeouts = timeouts
        self._helo = helo
        self._max_messages = max_messages
        self._max_age = max_age
        self._idle = idle
        self._clock = clock
        self._keep = keep
        self.known = KnownLimits(clock)
        self._kept: dict[Endpoint, list[SMTPConnection]] = {}
        self._count = 0
        self._surplus: list[SMTPConnection] = []  # to be closed by the next `reap`
        self._closed = False

    def limit(self, timeouts: Timeouts, max_messages: int, idle: float, keep: int) -> None:
        """Have other limits from now on. Connections that are open keep their timeouts. Any thread may call this."""
        self._timeouts, self._max_messages, self._idle, self._keep = timeouts, max_messages, idle, keep

    async def checkout(self, endpoint: Endpoint) -> SMTPConnection:
        """Return a kept or fresh connection to `endpoint` that nobody else uses.

        Raises `opening.CannotOpen`.
        """
        while (connection := self._take_kept(endpoint)) is not None:
            if self._reusable(connection) and connection.alive():
                return connection
            await self._close([connection])
        return await self.fresh(endpoint)

    async def fresh(self, endpoint: Endpoint) -> SMTPConnection:
        """Return a fresh connection, even if one is kept. Raises `opening.CannotOpen`."""
        timer = PhaseTimer(self._counters)
        try:
            opened = await SMTPConnection.open(endpoint, self._helo, self._timeouts, self._clock, timer)
        except CannotOpen as error:
            self._counters.add(CONNECTIONS_OPENED, error.outcome.phase.value)
            raise
        self._counters.add(CONNECTIONS_OPENED, "ok")
        return opened

    async def checkin(self, connection: SMTPConnection) -> None:
        """Give a connection back; close it if it is worn out or broken."""
        if self._closed or self._keep <= 0 or not self._reusable(connection):
            await self._close([connection])
            return
        if self._count >= self._keep:
            # Not closed here: this coroutine would wait for another server's answer to QUIT.
            self._surplus += self._take(1, lambda _: True)
        self._kept.setdefault(connection.endpoint, []).append(connection)
        self._count += 1

    async def reap(self) -> int:
        """Close connections that were idle too long or are too many; return how many.

        Call it every few seconds.
        """
        surplus, self._surplus = self._surplus, []
        worn = [*surplus, *self._take(self._count, lambda kept: not self._reusable(kept))]
        await self._close(worn)
        return len(worn)

    @property
    def idle(self) -> int:
        """How many idle connections are kept. Any thread may ask."""
        return self._count

    async def close_all(self) -> None:
        """Close all kept connections, and from now on every one that is given back."""
        self._closed = True
        surplus, self._surplus = self._surplus, []
        kept = [*surplus, *self._take(self._count, lambda _: True)]
        await self._close(kept)

    def _take_kept(self, endpoint: Endpoint) -> SMTPConnection | None:
        kept = self._kept.get(endpoint)
        if not kept:
            return None
        self._count -= 1
        connection = kept.pop()  # the one used last; the others may go idle and be closed
        if not kept:
            del self._kept[endpoint]
        return connection

    def _reusable(self, connection: SMTPConnection) -> bool:
        now = self._clock()
        return (
            connection.usable
            and connection.sent < self._max_messages
            and now - connection.opened < self._max_age
            and now - connection.last_used < self._idle
        )

    def _take(self, most: int, wanted: Callable[[SMTPConnection], bool]) -> list[SMTPConnection]:
        """Remove up to `most` connections that are `wanted`, longest idle first."""
        found = (c for group in self._kept.values() for c in group if wanted(c))
        kept = nsmallest(most, found, key=lambda c: c.last_used)
        for connection in kept:
            group = self._kept[connection.endpoint]
            group.remove(connection)
            if not group:
                del self._kept[connection.endpoint]
            self._count -= 1
        return kept

    async def _close(self, connections: Iterable[SMTPConnection]) -> None:
        """Send QUIT to all, then wait for the answers together.

        So all silent servers together cost one time limit.
        """
        closing = list(connections)
        if not closing:
            return
        for connection in closing:
            await connection.send_quit()
        deadline = monotonic() + self._timeouts.quit
        for connection in closing:
            await connection.await_quit_reply(deadline)
