"""The connections of a door: how many there are, how much they hold, and which waits for too long."""

import asyncio
from collections import Counter
from typing import Protocol

from mailbbgun.limits.windows import MemoryWindows
from mailbbgun.smtpd.options import DoorOptions

#: Seconds between two looks at the deadlines.
LOOK_SECONDS = 1.0

TOO_MANY = "421 4.3.2 Too many connections: try again later"
TOO_MANY_OF_YOURS = "421 4.7.0 Too many connections from your network: try again later"
TOO_SLOW = "421 4.4.2 Too slow"


class DoorClient(Protocol):
    """A connection as the registry sees it."""

    network: str
    #: When it is closed unless something happens before; the loop's time.
    deadline: float

    @property
    def worth(self) -> tuple[bool, bool, float] | None:
        """The connection with the least is closed first to make room; None: it is not closed for that."""

    def hang_up(self, reply: str) -> None:
        """Say why, and close."""


class DoorRegistry:
    """Counts connections and what they hold. For the event loop's thread."""

    def __init__(self, options: DoorOptions) -> None:
        self._options = options
        self.clients: set[DoorClient] = set()
        self._networks: Counter[str] = Counter()
        self._windows = MemoryWindows()
        self._held = 0

    def welcome(self, client: DoorClient, *, counts_minute: bool) -> str | None:
        """Count a new connection. Return why it is refused; None if it is not.

        If there are too many, one is closed: of the network that has the most, the one with the least
        worth. So silent connections keep nobody out.
        """
        if self._networks[client.network] >= self._options.connections_per_network:
            return TOO_MANY_OF_YOURS
        most = self._options.connections_per_minute
        if counts_minute and most and not self._windows.hit(client.network, most).allowed:
            return TOO_MANY_OF_YOURS
        self.clients.add(client)
        self._networks[client.network] += 1
        if len(self.clients) > self._options.connections:
            self._make_room(client)
        return None

    def forget(self, client: DoorClient) -> None:
        """Count a connection no longer."""
        if client in self.clients:
            self.clients.discard(client)
            self._networks[client.network] -= 1
            if not self._networks[client.network]:
                del self._networks[client.network]

    def hold(self, octets: int) -> bool:
        """Count octets of a message that are held. Say whether there was room for them."""
        if self._held + octets > self._options.in_flight:
            return False
        self._held += octets
        return True

    def release(self, octets: int) -> None:
        """Count octets as no longer held."""
        self._held -= octets

    def close_late(self) -> None:
        """Close the connections that have waited for too long."""
        now = asyncio.get_running_loop().time()
        for client in [one for one in self.clients if one.deadline <= now]:
            client.hang_up(TOO_SLOW)

    def _make_room(self, new: DoorClient) -> None:
        idle = [(one, worth) for one in self.clients if (worth := one.worth) is not None]
        least = min(idle, key=lambda one: (-self._networks[one[0].network], *one[1]))[0] if idle else new
        self.forget(least)
        least.hang_up(TOO_MANY)
