"""Bounds requests that need no API key: how many a minute come from one address."""

from mailbbgun.core.errors import RateLimited
from mailbbgun.core.net import network_of
from mailbbgun.limits.windows import MemoryWindows


class PublicRequests:
    """Counts the requests that one of ``processes`` processes answers. Thread-safe."""

    def __init__(self, per_minute: int, processes: int) -> None:
        #: Requests a minute of one address; 0: no limit.
        self.per_minute = per_minute
        self._processes = processes
        self._windows = MemoryWindows()

    def count(self, address: str | None) -> None:
        """Count a request of an address. Raises :class:`RateLimited`."""
        if not self.per_minute:
            return
        standing = self._windows.hit(network_of(address), self.per_minute, self._processes)
        if not standing.allowed:
            told = f"More than {self.per_minute} requests a minute about licences."
            raise RateLimited(told, limit=self.per_minute, retry_after=standing.seconds)
