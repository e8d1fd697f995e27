"""Limits requests a minute: of keys, of tenants, and of addresses that show no valid key.

With Redis all processes count together, exactly. Without it each process counts its own requests
and allows its share: the limit divided by the number of processes, at least one. So together they
allow no more than the limit, unless it is lower than the number of processes. If Redis does not
answer, each process counts its share until Redis is back, so no mail is refused for that.

A tenant's test keys are counted apart from its other keys, up to the same limit. So tests take
nothing from live mail.
"""

import logging
import threading
import time

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import RedisUnavailable
from mailbbgun.core.net import network_of
from mailbbgun.http.gate import Standing
from mailbbgun.limits.stores import redis_windows
from mailbbgun.limits.windows import MemoryWindows

#: Seconds between two tries whether Redis is back. One request waits for a try, the others do not.
PROBE_SECONDS = 1.0
#: Seconds between two log lines about Redis, at least.
LOG_SECONDS = 10.0

log = logging.getLogger("mailbbgun.rates")


class Rates:
    """Counts requests. Thread-safe; connects on first use."""

    def __init__(self, *, processes: int, unauthorized: int, redis_url: str = "") -> None:
        """Count for one of ``processes`` processes, in Redis if its URL is given.

        ``unauthorized`` is how many requests a minute an address may make without a valid key; 0:
        no limit.
        """
        self._processes = processes
        #: Requests a minute that an address may make without a valid key; 0: no limit.
        self.unauthorized = unauthorized
        self._memory = MemoryWindows()
        # Apart from the callers: when thousands of addresses push each other out, no caller is
        # forgotten.
        self._addresses = MemoryWindows()
        self._redis = redis_windows(redis_url)
        self._lock = threading.Lock()
        self._away = False
        self._next_probe = self._logged = float("-inf")

    @property
    def waits(self) -> bool:
        """Whether :meth:`taken` may wait for a server."""
        return self._redis is not None

    def allows(self, caller: Caller) -> bool:
        """Return whether :meth:`taken` would let a request through now, going by memory alone.

        Counts nothing.
        """
        return all(
            limit is None or self._memory.look(name, limit, self._processes).allowed for name, limit in _limits(caller)
        )

    def taken(self, caller: Caller) -> Standing | None:
        """Count a request, and return how the caller stands; None if it has no limit.

        The answer is about the limit that refuses the request, or comes nearest to that.
        """
        # The key's limit comes first: a key above it must use up nothing of the tenant's limit.
        (key, key_limit), (tenant, tenant_limit) = _limits(caller)
        of_key = of_tenant = None
        if key_limit is not None:
            of_key = self._hit(key, key_limit)
            if not of_key.allowed:
                return of_key
        if tenant_limit is not None:
            of_tenant = self._hit(tenant, tenant_limit)
        if of_key is None or of_tenant is None:
            return of_key or of_tenant
        return of_tenant if not of_tenant.allowed or of_tenant.remaining < of_key.remaining else of_key

    def address(self, address: str | None, *, failed: bool) -> Standing:
        """Return how an address stands with the limit of requests without a valid key.

        ``failed`` says that it made such a request just now, which is then counted. This never
        waits for Redis: strangers must not cause work.
        """
        if not self.unauthorized:
            return Standing(True, 0, 0, 0.0)
        ask = self._addresses.hit if failed else self._addresses.look
        return ask(network_of(address), self.unauthorized, self._processes)

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis:
            self._redis.close()

    def _hit(self, name: str, limit: int) -> Standing:
        if self._redis and self._ask_redis():
            try:
                standing = self._redis.hit(name, limit)
            except RedisUnavailable as error:
                self._is_away(error)
            else:
                self._away = False
                return standing
        return self._memory.hit(name, limit, self._processes)

    def _ask_redis(self) -> bool:
        """Return whether to ask Redis: it answered last time, or it is time to try again."""
        if not self._away:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._next_probe:
                return False
            self._next_probe = now + PROBE_SECONDS
            return True

    def _is_away(self, error: RedisUnavailable) -> None:
        with self._lock:
            now = time.monotonic()
            self._away = True
            self._next_probe = now + PROBE_SECONDS
            silent = now < self._logged + LOG_SECONDS
            self._logged = self._logged if silent else now
        if not silent:
            log.warning("rates_counted_in_memory", extra={"error": str(error), "cause": str(error.__cause__)})


def _limits(caller: Caller) -> tuple[tuple[str, int | None], tuple[str, int | None]]:
    """Return the two names that a caller's requests are counted under, with their limits."""
    return (f"key:{caller.key_id}", caller.requests_per_minute), (
        f"tenant:{caller.counts_as}",
        caller.tenant_requests_per_minute,
    )
