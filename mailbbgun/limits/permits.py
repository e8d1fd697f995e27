"""Permits to send under an account's limits: the arithmetic, and the contract of a permit store.

All limits of a time become one: mails leave at even intervals, the longest that any of the limits asks for. That is kept as one moment,
``free_at``, when all that was granted will have been paid off, one interval for each mail (the generic cell rate algorithm, ITU-T I.371).
A mail may go while that moment is no further away than the *burst* allows; in any ``t`` seconds no more go than ``burst + t / interval``.
``max_per_day`` is counted apart, by UTC days.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

SLACK = 0.25  # seconds; an asker that comes no later than this finds nothing lost
LEAST_INTERVAL = 0.0001  # seconds; without a limit of seconds or minutes, and faster than any server takes mail
UNLIMITED = 2**31 - 1  # mails a day
DAY = 86_400


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What an account's provider allows; None is no limit. Raises ``ValueError`` for what is not more than zero."""

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
        """Whether there is a limit at all. Who has none needs no permits."""
        return self != NONE

    @property
    def interval(self) -> float:
        """Seconds from mail to mail in the long run."""
        second = 1 / self.max_per_second if self.max_per_second else 0.0
        minute = 60 / self.max_per_minute if self.max_per_minute else 0.0
        return max(second, minute, self.send_interval or 0.0, LEAST_INTERVAL)

    @property
    def burst(self) -> float:
        """How many may go at once after a rest: one, and a quarter of a second's worth.

        Need not be whole: the fraction is what lets somebody who asks a little late catch up, and keep to the rate at 1 a second as well as at
        100. Where ``send_interval`` is given it is one: then nothing goes early, and what is asked for late is late.
        """
        return 1.0 if self.send_interval else 1 + SLACK / self.interval

    @property
    def per_day(self) -> int:
        """Most mails of a UTC day."""
        return min(self.max_per_day or UNLIMITED, UNLIMITED)


NONE = SendingLimits()


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A question for up to ``n`` mails of one account. Of earlier permits ``unused`` were not needed: today's count is lowered by them."""

    account_id: UUID
    n: int
    limits: SendingLimits
    unused: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer: ``n`` mails may go, and in ``wait`` seconds there is more to be had (0: now)."""

    account_id: UUID
    n: int
    wait: float


class PermitStore(ABC):
    """Counts what accounts have sent, for all processes that ask the same server. Safe to use from many threads; connects on first use."""

    @abstractmethod
    def ask(self, wants: Sequence[PermitRequest]) -> list[Permit]:
        """Answer for many accounts, which must differ, at once; in the order of the requests.

        What is granted counts as sent, whether it is or not. Whoever asks, and however many at once: in any ``t`` seconds no more is granted
        than ``burst + t / interval``, nor in any UTC day more than ``max_per_day`` (and what was ``unused``), by the server's clock alone.
        Limits are those of the question: they may change from one to the next, and take effect at once.

        Raises :class:`Unavailable` of the server's kind. Then some may have been counted that nobody was told of: never too few.
        """

    def check(self) -> None:
        """Look whether the server that counts lets us in, changing nothing. Raises :class:`Unavailable`. By default nothing is asked."""
        return

    @abstractmethod
    def close(self) -> None:
        """Close every connection of its own. Never raises, safe to repeat."""


def granted(want: PermitRequest, n: int, used: int, ahead: float, day_left: float) -> Permit:
    """Make the answer of what a server counted: ``used`` today, ``ahead`` seconds to ``free_at``, ``day_left`` seconds to midnight."""
    limits = want.limits
    wait = max(0.0, ahead - (limits.burst - 1) * limits.interval)
    return Permit(want.account_id, n, max(wait, day_left) if used >= limits.per_day else wait)
