"""The rate limiter gives the mail of one process its permits under the limits of SMTP accounts.

Nobody waits here. A mail takes a permit that is held for its account, or its asker is told how long
to wait. One thread asks the permit store for all accounts at once, and calls back when it gets
permits. The thread asks for no more permits than there are mails waiting, so that it takes nothing
from other processes. A permit that no mail takes soon is dropped and given back to the day's count.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import Unavailable, explained
from mailbbgun.limits.permits import Permit, PermitRequest, PermitStore, SendingLimits

#: How long a permit is held for a mail.
HOLD_SECONDS = 1.0
#: The later a mail uses its permit, the sooner the next one may follow it. So with a send_interval a
#: permit is held only for this part of it.
HOLD_PART = 0.1
#: But it is held for at least this many seconds, or on a busy machine no mail would ever be in time.
HOLD_LEAST = 0.1
#: A request to the store may be late by this part of permits.SLACK, to get several permits at once.
GATHER = 0.4
#: Seconds between two requests to the store, at least.
LEAST_REST = 0.01
#: Seconds to wait that are told, at least.
LEAST_WAIT = 0.01
#: Seconds until the next request for an account whose day is used up, at most.
LONGEST_WAIT = 60.0
#: Seconds until the next request after the first, the second and each further failure in a row.
BACK_OFF = (0.5, 1.0, 2.0)
#: Seconds between two log lines about failures, at least.
COMPLAIN_SECONDS = 5.0

log = logging.getLogger("mailbbgun.rate_limiter")


@dataclass(slots=True)
class _Account:
    """The state of one account in this process. Moments are monotonic seconds."""

    limits: SendingLimits
    due: float  # when to ask the store for more
    free: float  # when the store should have more
    wanted: int = 0  # mails that wait for a permit
    unused: int = 0  # dropped permits that the store was not told of yet
    held: deque[float] = field(default_factory=deque)  # permits: the moment at which each is dropped

    @property
    def missing(self) -> int:
        """How many permits to ask the store for."""
        return max(0, self.wanted - len(self.held))

    @property
    def next_moment(self) -> float:
        """When the thread has something to do for this account."""
        ask = self.due if self.missing else math.inf
        return min(ask, self.held[0] if self.held else math.inf, 0.0 if self.unused else math.inf)

    def drop_old(self, now: float) -> None:
        """Drop permits that no mail took in time. The mail they were for counts as gone."""
        while self.held and self.held[0] <= now:
            self.held.popleft()
            self.wanted = 0
            self.unused += 1 if self.limits.max_per_day else 0


class RateLimiter:
    """One for each process. Its thread starts at the first call of :meth:`ready`."""

    def __init__(self, permits: PermitStore, on_permit: Callable[[], None]) -> None:
        """Get permits from the store ``permits``, and call ``on_permit`` when some are held."""
        self._permits = permits
        self._on_permit = on_permit
        self._accounts: dict[UUID, _Account] = {}
        self._changed = threading.Condition()
        self._wakes = math.inf  # when the thread wakes by itself; -inf while it is awake
        self._rests_until = 0.0
        self._failures = 0
        self._complained = -math.inf
        self._stopping = False
        self._thread: threading.Thread | None = None

    def ready(self, account_id: UUID, limits: SendingLimits, waiting: int = 1) -> float:
        """Take one permit and return 0; if there is none, return about how many seconds to wait.

        It does no I/O. ``waiting`` is how many mails of this process could go through the account
        now, this one included. The limiter asks for permits for all of them, also after it returned
        0. ``limits`` may change from call to call. Do not call it for an account without limits.
        """
        now = time.monotonic()
        with self._changed:
            account = self._accounts.get(account_id)
            if account is None:
                account = self._accounts[account_id] = _Account(limits, now, now)
            elif account.limits != limits:
                account.limits, account.due, account.free = limits, now, now
            account.drop_old(now)
            may_go = bool(account.held)
            if may_go:
                account.held.popleft()
            account.wanted = max(1, waiting) - may_go
            self._wake_for(account)
            return 0.0 if may_go else max(LEAST_WAIT, max(account.free, self._rests_until) - now)

    def close(self, timeout: float = 2.0) -> None:
        """Stop asking, and give unused permits back to the day's counts.

        This takes at most ``timeout`` seconds. The store stays open.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _wake_for(self, account: _Account) -> None:
        """Start the thread, or wake it if it would sleep beyond the account's next moment."""
        if self._thread is None and not self._stopping:
            self._thread = threading.Thread(target=self._run, name="rate-limiter", daemon=True)
            self._thread.start()
        if max(account.next_moment, self._rests_until) < self._wakes:
            self._wakes = -math.inf
            self._changed.notify()

    def _run(self) -> None:
        while wants := self._next_requests():
            self._ask(wants)

    def _next_requests(self) -> list[PermitRequest]:
        """Wait until requests are due, and return them; at the end return the last ones."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                wants = self._due(now) if now >= self._rests_until else []
                if wants:
                    return wants
                moment = min((account.next_moment for account in self._accounts.values()), default=math.inf)
                self._wakes = max(moment, self._rests_until) if moment < math.inf else math.inf
                self._changed.wait(None if self._wakes == math.inf else max(0.0, self._wakes - time.monotonic()))
                self._wakes = -math.inf
            return self._last_requests()

    def _due(self, now: float) -> list[PermitRequest]:
        """Return the requests that are due, and forget accounts that nobody uses."""
        wants = []
        for account_id, account in list(self._accounts.items()):
            account.drop_old(now)
            if account.unused or (account.missing and account.due <= now):
                n = account.missing if account.due <= now else 0
                wants.append(PermitRequest(account_id, n, account.limits, account.unused))
                # Tell the store only once. If its answer is lost, telling it again could grant too
                # much today.
                account.unused = 0
            elif not account.wanted and not account.held and account.due <= now:
                del self._accounts[account_id]
        return wants

    def _last_requests(self) -> list[PermitRequest]:
        """Return requests that only give unused permits back, and forget all accounts."""
        accounts, self._accounts = self._accounts, {}
        unused = {
            key: account.unused + len(account.held) for key, account in accounts.items() if account.limits.max_per_day
        }
        return [PermitRequest(key, 0, accounts[key].limits, n) for key, n in unused.items() if n]

    def _ask(self, wants: Sequence[PermitRequest]) -> None:
        started = time.monotonic()
        try:
            answers = self._permits.ask(wants)
        except Unavailable as error:
            self._failed(error)
        except Exception:  # a bug must not end the thread: nothing would be sent until the next start
            log.exception("rate_limiter_failed")
            self._failed(None)
        else:
            self._failures = 0
            if self._apply(wants, answers, rest_after(time.monotonic() - started)):
                self._call_back()

    def _apply(self, wants: Sequence[PermitRequest], answers: Sequence[Permit], rest: float) -> int:
        """Hold the granted permits, and return how many were granted."""
        now = time.monotonic()
        with self._changed:
            self._rests_until = now + max(LEAST_REST, rest)
            for want, permit in zip(wants, answers, strict=True):
                account = self._accounts.get(want.account_id)
                if account is None:  # one of the last requests
                    continue
                account.held.extend([now + _hold(want.limits)] * permit.n)
                if account.limits == want.limits and want.n:
                    late = GATHER * (want.limits.burst - 1) * want.limits.interval if permit.n < want.n else 0.0
                    account.free = now + permit.wait
                    account.due = now + min(permit.wait + late, LONGEST_WAIT)
        return sum(permit.n for permit in answers)

    def _call_back(self) -> None:
        try:
            self._on_permit()
        except Exception:
            log.exception("rate_limiter_failed")

    def _failed(self, error: Unavailable | None) -> None:
        now = time.monotonic()
        self._failures += 1
        with self._changed:
            self._rests_until = now + BACK_OFF[min(self._failures, len(BACK_OFF)) - 1]
        if error and now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            log.warning("limits_unavailable", extra={"error": explained(error)})


def _hold(limits: SendingLimits) -> float:
    """Return for how many seconds a permit is held."""
    if not limits.send_interval:
        return HOLD_SECONDS
    return min(HOLD_SECONDS, max(HOLD_LEAST, HOLD_PART * limits.send_interval))
