"""How many requests were made in the last minute, counted in Redis for all processes together.

Here the library's counter serves: forgetting names and keeping time are the server's business.
"""

import time
from urllib.parse import urlsplit

from limits.errors import StorageError
from limits.storage import RedisStorage

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable
from mailbbgun.http.gate import Standing
from mailbbgun.limits.windows import WINDOW, reset_after

REDIS_SECONDS = 0.25  # to connect, and for an answer: a request waits for it


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
        return Standing(allowed, limit, max(limit - count, 0), reset_after(time.time() - first))

    def close(self) -> None:
        """Close what is pooled."""
        self._storage.storage.close()
