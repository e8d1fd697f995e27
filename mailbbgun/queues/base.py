"""The contract of a queue; ``tests/contract`` runs one suite against every driver."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from mailbbgun.queues.lanes import LANES


@dataclass(frozen=True, slots=True)
class Hint:
    """A message's id, taken from a lane.

    ``token`` belongs to the driver, for :meth:`Consumer.settle`.
    """

    message_id: UUID
    lane: str
    token: object


class Consumer(ABC):
    """Takes hints from a queue. Belongs to one thread.

    Hints that it held unsettled when it was closed or killed come again. A driver may carry several
    hints in one bunch; then settled hints of a bunch come again with an unsettled one.
    """

    @abstractmethod
    def take(self, limit: int, timeout: float, lanes: Collection[str] = LANES) -> list[Hint]:
        """Return up to ``limit`` hints of these lanes, in weighted turns.

        Waits up to ``timeout`` seconds for the first hint; returns an empty list if none comes.
        Junk on the queue is settled, logged and skipped. Raises :class:`QueueUnavailable` when the
        connection is gone: close this consumer and ask for another.
        """

    @abstractmethod
    def settle(self, hints: Sequence[Hint]) -> None:
        """Tell the queue that these hints are done.

        Raises :class:`QueueUnavailable`; they may then come again.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back unsettled hints. Never raises; safe to repeat."""


class Queue(ABC):
    """Stores and delivers hints durably. Thread-safe.

    A connection is made on first use, in the process that uses it.
    """

    @abstractmethod
    def declare(self) -> None:
        """Make all exchanges, queues or tables; safe to repeat.

        Raises :class:`QueueUnavailable`, :class:`QueueMisconfigured`.
        """

    @abstractmethod
    def check(self) -> None:
        """Check that everything is there, changing nothing.

        Raises :class:`QueueUnavailable`, or :class:`QueueMisconfigured` if a part is missing.
        """

    @abstractmethod
    def mend(self) -> Sequence[str]:
        """Make the parts that are missing, and nothing else; return their names.

        Cheap if nothing is missing. Raises :class:`QueueUnavailable`, or
        :class:`QueueMisconfigured` if a part is missing and may not be made.
        """

    @abstractmethod
    def publish(self, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
        """Store hints that appear on ``lane`` after ``delay`` seconds: 0, or one of :attr:`delays`.

        Returns when every hint is confirmed, else raises :class:`QueueUnavailable` within 10 s.
        Some hints may be stored then; publishing them again is harmless.
        """

    @property
    @abstractmethod
    def delays(self) -> Sequence[int]:
        """The delays in seconds that :meth:`publish` accepts."""

    @abstractmethod
    def consumer(self, prefetch: int, lanes: Collection[str] = LANES) -> Consumer:
        """Return a new consumer of these lanes. Raises :class:`QueueUnavailable`.

        It holds at most ``prefetch`` unsettled hints of each lane. A driver with bunches holds
        about that many: twice as many, or 128 for a small ``prefetch``, while the bunches are full;
        an eighth, or eight, while each holds one hint.
        """

    @abstractmethod
    def depth(self) -> Mapping[str, int]:
        """Return for each lane the most hints that may wait on it; 0 if none waits.

        Delayed hints and hints that a consumer holds do not count. The number is exact if the
        driver carries each hint by itself, else never too small. Raises :class:`QueueUnavailable`.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection. Never raises; safe to repeat."""
