"""Permits to send under an SMTP account's limits: arithmetic, and contract of permit stores.

An account may have limits per second and per minute, and a least interval. Together they give one
*interval* between mails: the longest that any of them asks for. Each granted permit costs one
interval of time (the generic cell rate algorithm, ITU-T I.371). The store keeps one moment for an
account, ``free_at``: when all granted permits are paid off. A further mail may go while that moment
is no further away than the *burst* allows. So in any ``t`` seconds at most ``burst + t / interval``
mails go.

``max_per_day`` is counted apart, by UTC days.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

#: A process that asks up to this many seconds late still reaches the full rate.
SLACK = 0.25
#: The interval, in seconds, without a limit but ``max_per_day``: shorter than any server takes for
#: a mail.
LEAST_INTERVAL = 0.0001
#: Mails a day, without a limit.
UNLIMITED = 2**31 - 1
#: Seconds.
DAY = 86_400


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What the provider of an account allows; None: no limit.

    Raises ``ValueError`` for a limit that is not positive.
    """

    max_per_second: float | None = None
    max_per_minute: int | None = None
    max_per_day: int | None = None
    send_interval: float | None = None  # least seconds between two mails

    def __post_init__(self) -> None:
        for limit in (self.max_per_second, self.max_per_minute, self.max_per_day, self.send_interval):
            if limit is not None and not limit > 0:
                raise ValueError(f"a sending limit must be more than zero, not {limit}")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all. An account without limits needs no permits."""
        return self != NONE

    @property
    def interval(self) -> float:
        """Seconds from one mail to the next, in the long run."""
        second = 1 / self.max_per_second if self.max_per_second else 0.0
        minute = 60 / self.max_per_minute if self.max_per_minute else 0.0
        return max(second, minute, self.send_interval or 0.0, LEAST_INTERVAL)

    @property
    def burst(self) -> float:
        """How many mails may go at once after a rest: one, and those of a quarter of a second.

        It need not be whole. The fraction lets a process that asks a little late catch up, so that
        it reaches a rate of 1 a second as well as one of 100. With ``send_interval`` the burst is
        one: no mail goes early, and a process that asks late does not catch up.
        """
        return 1.0 if self.send_interval else 1 + SLACK / self.interval

    @property
    def per_day(self) -> int:
        """The most mails of a UTC day."""
        return min(self.max_per_day or UNLIMITED, UNLIMITED)


#: No limits.
NONE = SendingLimits()


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A request for up to ``n`` permits of one account.

    ``unused`` is how many earlier permits were not used. Today's count is lowered by it.
    """

    account_id: UUID
    n: int
    limits: SendingLimits
    unused: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer: ``n`` mails may go, and in ``wait`` seconds (0: now) more permits can be had."""

    account_id: UUID
    n: int
    wait: float


class PermitStore(ABC):
    """Counts what accounts have sent, for all processes that use the same server.

    Thread-safe; connects on first use.
    """

    @abstractmethod
    def ask(self, wants: Sequence[PermitRequest]) -> list[Permit]:
        """Answer requests for different accounts at once, in the order of the requests.

        A granted permit counts as sent, used or not. However many processes ask: in any ``t``
        seconds at most ``burst + t / interval`` permits are granted, and in any UTC day at most
        ``max_per_day`` (plus those given back as ``unused``), by the server's clock. The limits of
        a request take effect at once, and may differ from those of the request before.

        Raises :class:`Unavailable` of the server's kind. Then permits may have been counted
        although nobody got them; so the count may be too high, but never too low.
        """

    def check(self) -> None:
        """Check that the server lets us in, and change nothing.

        Raises :class:`Unavailable`. Does nothing by default.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Close the store's own connections. Never raises, and may be called again."""


def granted(want: PermitRequest, n: int, used: int, ahead: float, day_left: float) -> Permit:
    """Return the answer to a request that was granted ``n`` permits, from what the server counted.

    ``used`` are today's permits; ``ahead`` and ``day_left`` are the seconds to ``free_at`` and to
    midnight.
    """
    limits = want.limits
    wait = max(0.0, ahead - (limits.burst - 1) * limits.interval)
    return Permit(want.account_id, n, max(wait, day_left) if used >= limits.per_day else wait)
