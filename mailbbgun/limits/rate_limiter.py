"""The rate limiter of one process: senders ask it for permits and never wait, a thread asks the permit store for all of them.

A sender that may not go yet is counted in the next question, one statement for all accounts, and woken when the answer is there.
No more is asked for than waits, so that nothing is kept from other processes; what nobody came for is forgotten, and taken off the day's count.
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

HOLD_SECONDS = 1.0  # that a permit waits to be used
HOLD_PART = (
    0.1  # of an account's send_interval: two mails must not come together because the first was slow; but not less than
)
HOLD_LEAST = 0.1  # seconds, or a busy machine would never be in time
GATHER = 0.4  # of the lateness that costs nothing: what comes up in that time is asked for at once
LEAST_REST = 0.01  # seconds between two questions
LEAST_WAIT = 0.01  # seconds a sender is told, when nothing better is known
LONGEST_WAIT = 60.0  # seconds, until an account whose day is used up is asked about again
BACK_OFF = (0.5, 1.0, 2.0)  # seconds
COMPLAIN_SECONDS = 5.0

log = logging.getLogger("mailbbgun.rate_limiter")


@dataclass(slots=True)
class _Account:
    """What is known of one account. Moments are monotonic seconds."""

    limits: SendingLimits
    due: float  # when to ask about it
    free: float  # when there should be more
    wanted: int = 0
    unused: int = 0  # not yet told
    held: deque[float] = field(default_factory=deque)  # the moment at which each permit is forgotten

    @property
    def lacking(self) -> int:
        return max(0, self.wanted - len(self.held))

    @property
    def moment(self) -> float:
        """When the thread has something to do about it."""
        ask = self.due if self.lacking else math.inf
        return min(ask, self.held[0] if self.held else math.inf, 0.0 if self.unused else math.inf)

    def forget(self, now: float) -> None:
        """Forget permits nobody came for, and whoever wanted them."""
        while self.held and self.held[0] <= now:
            self.held.popleft()
            self.wanted = 0
            self.unused += 1 if self.limits.max_per_day else 0


class RateLimiter:
    """One for each process. Its thread starts with the first sender that must wait, so it belongs to the process that sends."""

    def __init__(self, permits: PermitStore, on_permit: Callable[[], None]) -> None:
        """Ask ``permits``, and call ``on_permit``, from the thread, whenever something was granted."""
        self._grants = permits
        self._on_grant = on_permit
        self._accounts: dict[UUID, _Account] = {}
        self._changed = threading.Condition()
        self._wakes = math.inf  # when the thread looks again by itself; -inf while it is awake
        self._rests_until = 0.0
        self._failures = 0
        self._complained = -math.inf
        self._stopping = False
        self._thread: threading.Thread | None = None

    def ready(self, account_id: UUID, limits: SendingLimits, waiting: int = 1) -> float:
        """Return 0 if a mail may go through the account now, which uses up one permit; else about how many seconds to wait.

        ``waiting`` is how many could go through it from here at once, this one included: so many are asked for. With a 0 the others go on
        being asked for. Does no I/O. ``limits`` may change from call to call; an account without any has no business here.
        """
        now = time.monotonic()
        with self._changed:
            account = self._accounts.get(account_id)
            if account is None:
                account = self._accounts[account_id] = _Account(limits, now, now)
            elif account.limits != limits:
                account.limits, account.due, account.free = limits, now, now
            account.forget(now)
            may_go = bool(account.held)
            if may_go:
                account.held.popleft()
            account.wanted = max(1, waiting) - may_go
            self._see_to(account)
            return 0.0 if may_go else max(LEAST_WAIT, max(account.free, self._rests_until) - now)

    def close(self, timeout: float = 2.0) -> None:
        """Stop asking; tell, if that goes within ``timeout`` seconds, what of the day's count was not needed. ``permits`` is left open."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _see_to(self, account: _Account) -> None:
        if self._thread is None and not self._stopping:
            self._thread = threading.Thread(target=self._run, name="rate-limiter", daemon=True)
            self._thread.start()
        if max(account.moment, self._rests_until) < self._wakes:
            self._wakes = -math.inf
            self._changed.notify()

    def _run(self) -> None:
        while wants := self._next():
            self._ask(wants)

    def _next(self) -> list[PermitRequest]:
        """Wait for something to ask; nothing when it is time to stop and nothing is left to tell."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                wants = self._due(now) if now >= self._rests_until else []
                if wants:
                    return wants
                moment = min((account.moment for account in self._accounts.values()), default=math.inf)
                self._wakes = max(moment, self._rests_until) if moment < math.inf else math.inf
                self._changed.wait(None if self._wakes == math.inf else max(0.0, self._wakes - time.monotonic()))
                self._wakes = -math.inf
            return self._last()

    def _due(self, now: float) -> list[PermitRequest]:
        wants = []
        for account_id, account in list(self._accounts.items()):
            account.forget(now)
            if account.unused or (account.lacking and account.due <= now):
                n = account.lacking if account.due <= now else 0
                wants.append(PermitRequest(account_id, n, account.limits, account.unused))
                account.unused = 0  # told once: told twice, after an answer that was lost, the day would get too long
            elif not account.wanted and not account.held and account.due <= now:
                del self._accounts[account_id]
        return wants

    def _last(self) -> list[PermitRequest]:
        accounts, self._accounts = self._accounts, {}
        unused = {
            key: account.unused + len(account.held) for key, account in accounts.items() if account.limits.max_per_day
        }
        return [PermitRequest(key, 0, accounts[key].limits, n) for key, n in unused.items() if n]

    def _ask(self, wants: Sequence[PermitRequest]) -> None:
        started = time.monotonic()
        try:
            answers = self._grants.ask(wants)
        except Unavailable as error:
            self._failed(error)
        except Exception:  # a bug of ours must not end the thread: nothing would be sent until the next start
            log.exception("rate_limiter_failed")
            self._failed(None)
        else:
            self._failures = 0
            if self._apply(wants, answers, rest_after(time.monotonic() - started)):
                self._tell()

    def _apply(self, wants: Sequence[PermitRequest], answers: Sequence[Permit], rest: float) -> int:
        """Take the answers in; return how much was granted."""
        now = time.monotonic()
        with self._changed:
            self._rests_until = now + max(LEAST_REST, rest)
            for want, permit in zip(wants, answers, strict=True):
                account = self._accounts.get(want.account_id)
                if account is None:  # the last question, of :meth:`close`
                    continue
                account.held.extend([now + _hold(want.limits)] * permit.n)
                if account.limits == want.limits and want.n:
                    late = GATHER * (want.limits.burst - 1) * want.limits.interval if permit.n < want.n else 0.0
                    account.free = now + permit.wait
                    account.due = now + min(permit.wait + late, LONGEST_WAIT)
        return sum(permit.n for permit in answers)

    def _tell(self) -> None:
        try:
            self._on_grant()
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
    return (
        min(HOLD_SECONDS, max(HOLD_LEAST, HOLD_PART * limits.send_interval)) if limits.send_interval else HOLD_SECONDS
    )
