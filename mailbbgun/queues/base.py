"""The contract of a queue. ``tests/contract`` runs one suite against every driver."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from mailbbgun.queues.lanes import LANES


@dataclass(frozen=True, slots=True)
class Hint:
    """A message's id that came off a lane.

    ``token`` is the driver's own, for :meth:`Consumer.settle`.
    """

    message_id: UUID
    lane: str
    token: object


class Consumer(ABC):
    """Takes hints.

    Belongs to one thread; what it holds unsettled when closed or killed comes again.

    A driver may carry hints in bunches: then some that were settled come with it, those that share
    a bunch with an unsettled one.
    """

    @abstractmethod
    def take(self, limit: int, timeout: float, lanes: Collection[str] = LANES) -> list[Hint]:
        """Return up to ``limit`` hints by weighted turns between these lanes, waiting up to
        ``timeout`` seconds for the first.

        Returns an empty list when nothing came. Junk on the queue is settled, logged and skipped.
        Raises :class:`QueueUnavailable` when the connection is gone: close this consumer and ask
        for another.
        """

    @abstractmethod
    def settle(self, hints: Sequence[Hint]) -> None:
        """Tell the queue these are done with.

        Raises :class:`QueueUnavailable`; they may then come again.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what is unsettled. Never raises, safe to repeat."""


class Queue(ABC):
    """Carries hints durably.

    Safe to use from many threads; connections are made on first use, in the process that uses them.
    """

    @abstractmethod
    def declare(self) -> None:
        """Make the topology; safe to repeat.

        Raises :class:`QueueUnavailable`, :class:`QueueMisconfigured`.
        """

    @abstractmethod
    def check(self) -> None:
        """Look, changing nothing.

        Raises :class:`QueueUnavailable`, or :class:`QueueMisconfigured` if a part is missing.
        """

    @abstractmethod
    def mend(self) -> Sequence[str]:
        """Make what is missing of the topology, and nothing else; return the names of what was
        made. Cheap when nothing is missing.

        Raises :class:`QueueUnavailable`, or :class:`QueueMisconfigured` if a part is missing and
        may not be made.
        """

    @abstractmethod
    def publish(self, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
        """Store hints that appear on ``lane`` after ``delay`` seconds (0, or one of
        :attr:`delays`).

        Returns when every one is confirmed. Raises :class:`QueueUnavailable` within the confirm
        deadline (10 s) otherwise; some may have been stored all the same, and publishing them again
        is harmless.
        """

    @property
    @abstractmethod
    def delays(self) -> Sequence[int]:
        """The delays in seconds that :meth:`publish` takes."""

    @abstractmethod
    def consumer(self, prefetch: int) -> Consumer:
        """Return a new consumer of all lanes that holds about ``prefetch`` unsettled hints per
        lane. Raises :class:`QueueUnavailable`.

        Never more, if the driver carries each hint by itself. One that carries them in bunches
        counts these: while they are full it may hold twice as many, or 128 for a small
        ``prefetch``; while each is of one hint, no more than an eighth or eight.
        """

    @abstractmethod
    def depth(self) -> Mapping[str, int]:
        """Return the most hints that may wait on each lane, not counting delayed ones or those a
        consumer holds. 0: none waits.

        Exact, if the driver carries each hint by itself; else never less than there are. Raises
        :class:`QueueUnavailable`.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection. Never raises, safe to repeat."""
