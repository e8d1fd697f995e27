"""Counts requests of the last minute in Redis, for all processes together.

Unlike :mod:`windows` it uses the counter of the library ``limits``: Redis itself forgets old names.
"""

import time
from urllib.parse import urlsplit

from limits.errors import StorageError
from limits.storage import RedisStorage

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable
from mailbbgun.http.gate import Standing
from mailbbgun.limits.windows import WINDOW, reset_after

#: How long Redis may take to accept a connection, and to answer. A client's request waits for it.
REDIS_SECONDS = 0.25


class RedisWindows:
    """Counts by name, for all processes of a Redis. Their clocks must agree to about a second."""

    def __init__(self, url: str) -> None:
        """Read the URL, and connect to nothing yet.

        Raises :class:`ConfigurationError`. Its text does not show the URL, which may have a
        password.
        """
        try:
            int(urlsplit(url).path.strip("/") or 0)  # the client would use database 0 if this is no number
            self._storage = RedisStorage(
                url,
                key_prefix="mailbbgun:rate",
                wrap_exceptions=True,
                socket_connect_timeout=REDIS_SECONDS,
                socket_timeout=REDIS_SECONDS,
                # Passed on to the client, which would try three times by default.
                retry=None,  # type: ignore[arg-type]  # the library's types leave it out
            )
            # This checks all options of the URL, and does not connect either.
            self._storage.storage.connection_pool.make_connection()
        except (TypeError, ValueError) as error:
            raise ConfigurationError("REDIS_URL: must be redis://user:password@host:port/database") from error

    def hit(self, name: str, limit: int) -> Standing:
        """Count a request if the limit allows it, and return how the name stands.

        Raises :class:`RedisUnavailable`, after at most a quarter of a second.
        """
        try:
            allowed = self._storage.acquire_entry(name, limit, WINDOW)
            first, count = self._storage.get_moving_window(name, limit, WINDOW)
        except StorageError as error:
            raise RedisUnavailable("Redis does not answer") from error
        return Standing(allowed, limit, max(limit - count, 0), reset_after(time.time() - first))

    def close(self) -> None:
        """Close the pooled connections."""
        self._storage.storage.close()
