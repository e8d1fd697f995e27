"""Who asks too often: limits of keys and tenants, and of addresses that show no valid key.

Without Redis each process counts for itself and allows its share, a limit divided by the processes: together never more than the limit (a lower
limit than there are processes counts as one for each). With Redis all processes count together, and exactly. Redis that is away is no reason to
refuse mail: until it is back, shares are counted.

A tenant's test keys are counted apart from its other keys, up to the same limit: tests use up nothing of what live mail may have.
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

PROBE_SECONDS = 1.0  # between looks whether Redis is back: one request waits for it, the others do not
LOG_SECONDS = 10.0  # between lines about that

log = logging.getLogger("mailbbgun.rates")


class Rates:
    """Counts requests. Thread-safe; connects on first use."""

    def __init__(self, *, processes: int, unauthorized: int, redis_url: str = "") -> None:
        """Count for one of so many processes, with Redis if its URL is given; an address may show no valid key ``unauthorized`` times a minute."""
        self._processes = processes
        self._unauthorized = unauthorized
        self._memory = MemoryWindows()
        self._addresses = MemoryWindows()  # apart: so many strangers that some are forgotten make no caller be
        self._redis = redis_windows(redis_url)
        self._lock = threading.Lock()
        self._away = False
        self._probe = self._told = float("-inf")

    @property
    def waits(self) -> bool:
        """Whether :meth:`taken` may wait for a server."""
        return self._redis is not None

    def allows(self, caller: Caller) -> bool:
        """Say whether :meth:`taken` would let a request through just now, as far as memory knows; count none."""
        return all(
            limit is None or self._memory.look(name, limit, self._processes).allowed for name, limit in _limits(caller)
        )

    def taken(self, caller: Caller) -> Standing | None:
        """Count a request of a caller's; return how it stands with the limit that refuses it or is nearest to that. None: there is no limit."""
        # The key's first: one that asks too often does not use up what its tenant's other keys may have.
        (key, of_key), (tenant, of_tenant) = _limits(caller)
        own = its = None
        if of_key is not None:
            own = self._hit(key, of_key)
            if not own.allowed:
                return own
        if of_tenant is not None:
            its = self._hit(tenant, of_tenant)
        if own is None or its is None:
            return own or its
        return its if not its.allowed or its.remaining < own.remaining else own

    def address(self, address: str | None, *, failed: bool) -> Standing:
        """Say how an address stands that shows no valid key; count it if it has ``failed`` to just now.

        Always in memory: nobody is asked on a stranger's behalf.
        """
        if not self._unauthorized:
            return Standing(True, 0, 0, 0.0)
        ask = self._addresses.hit if failed else self._addresses.look
        return ask(network_of(address), self._unauthorized, self._processes)

    def close(self) -> None:
        """Close connections."""
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
        if not self._away:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._probe:
                return False
            self._probe = now + PROBE_SECONDS
            return True

    def _is_away(self, error: RedisUnavailable) -> None:
        with self._lock:
            now = time.monotonic()
            self._away = True
            self._probe = now + PROBE_SECONDS
            silent = now < self._told + LOG_SECONDS
            self._told = self._told if silent else now
        if not silent:
            log.warning("rates_counted_in_memory", extra={"error": str(error), "cause": str(error.__cause__)})


def _limits(caller: Caller) -> tuple[tuple[str, int | None], tuple[str, int | None]]:
    """Return what a caller is counted by, its key first, and how many each may be."""
    return (f"key:{caller.key_id}", caller.requests_per_minute), (
        f"tenant:{caller.counts_as}",
        caller.tenant_requests_per_minute,
    )
