"""How many requests were made in the last minute: in this process's memory, or in Redis for all processes together.

The window moves with each request, so that nothing is gained at the edge of a minute: in no sixty seconds, wherever they begin, are more than the
limit allowed. In memory it is ours: the library's own store starts a thread with nearly every request (0.2 ms), never forgets a name, and goes by
a clock that can be set. Redis, where both are its server's business, is the library's.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from urllib.parse import urlsplit

from limits.errors import StorageError
from limits.storage import RedisStorage

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable
from mailbbgun.http.gate import Standing

WINDOW = 60  # seconds
MOST_NAMES = 10_000  # counted in memory; then who was quiet for longest is forgotten
REDIS_SECONDS = 0.25  # to connect, and for an answer: a request waits for it


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
    return Standing(allowed, limit, max(share - len(moments), 0), _reset(now - moments[0]) if moments else 0.0)


def _reset(age: float) -> float:
    return min(max(WINDOW - age, 0.0), WINDOW)  # Redis rounds moments to a tenth of a millisecond, so that some are to come yet


class RedisWindows:
    """Counts by names, for all who share a Redis. Their clocks must agree, to about a second."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet. Raises :class:`ConfigurationError`, which does not tell the URL: there may be a password in it."""
        try:
            int(urlsplit(url).path.strip("/") or 0)  # the client takes a database that is no number for the first
            self._storage = RedisStorage(
                url,
                key_prefix="mailbbgun:rate",
                wrap_exceptions=True,
                socket_connect_timeout=REDIS_SECONDS,
                socket_timeout=REDIS_SECONDS,
                retry=None,  # type: ignore[arg-type]  # handed on to the client, which would try three times by default
            )
            self._storage.storage.connection_pool.make_connection()  # which connects to nothing, but knows all that may be said in a URL
        except (TypeError, ValueError) as error:
            raise ConfigurationError("REDIS_URL: must be redis://user:password@host:port/database") from error

    def hit(self, name: str, limit: int) -> Standing:
        """Count a request, if the limit allows it. Raises :class:`RedisUnavailable`, after a quarter of a second at most."""
        try:
            allowed = self._storage.acquire_entry(name, limit, WINDOW)
            first, count = self._storage.get_moving_window(name, limit, WINDOW)
        except StorageError as error:
            raise RedisUnavailable("Redis does not answer") from error
        return Standing(allowed, limit, max(limit - count, 0), _reset(time.time() - first))

    def close(self) -> None:
        """Close what is pooled."""
        self._storage.storage.close()
