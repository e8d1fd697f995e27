"""A message that waits for its commit, and where it stands."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, Protocol
from uuid import UUID

from mailbbgun.core.caller import counts_as
from mailbbgun.core.errors import QuotaExceeded
from mailbbgun.database.idempotency import KeyClaim

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A message as it is stored, and what is answered for it."""

    message: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    response: Answer
    per_day: int | None = None  # how many messages its tenant may hand over in a day; None: as many as it likes

    @property
    def counts_as(self) -> UUID:
        """The id under which it is counted."""
        return counts_as(self.message["tenant_id"], test=self.message["test"])


class State(IntEnum):
    """Where a pending write stands. ``_NEXT`` says what follows what."""

    NEW = auto()  #: Nobody has asked for it yet.
    WAITING = auto()  #: It waits for a common commit.
    ALONE = auto()  #: No common commit takes it any more: whoever asks for the result writes it.
    STORED = auto()
    ANSWERED = auto()  #: An earlier request had its key, and has its answer.
    OVER_QUOTA = auto()  #: Its tenant's quota is used up.


# Module-level names, and an IntEnum: to look a member up in its class costs 0.2 µs, and to hash one of an Enum 0.3 µs.
NEW, WAITING, ALONE, STORED, ANSWERED, OVER_QUOTA = State

_NEXT: Mapping[State, tuple[State, ...]] = {
    NEW: (WAITING,),
    WAITING: (STORED, ALONE, ANSWERED, OVER_QUOTA),
    ALONE: (STORED, ANSWERED, OVER_QUOTA),
    STORED: (),
    ANSWERED: (),
    OVER_QUOTA: (),
}


class Writer(Protocol):
    """What a pending write needs of the store that made it: see :class:`~mailbbgun.accept.store.Store`."""

    lock: threading.Lock

    def begin(self, pending: "PendingWrite") -> None:
        """Begin to store it, once."""

    def settle(self, pending: "PendingWrite") -> Answer | None:
        """Do for one what no common commit has done for it."""


class PendingWrite:
    """A message on its way into the database. It begins with :meth:`begin` or :meth:`result`.

    Its state is moved on by the thread that has it in hand: the request's, then the store's, then the request's again.
    """

    __slots__ = ("_bell", "_store", "_then", "after_commit", "key_claim", "refusal", "rows", "state")

    def __init__(self, store: Writer, rows: Rows, key_claim: KeyClaim | None, after_commit: Callable[[], None]) -> None:
        self.rows = rows
        self.key_claim = key_claim
        self.after_commit = after_commit
        self.state = NEW
        self.refusal: QuotaExceeded | None = None  # why it is OVER_QUOTA
        self._store = store
        self._then: Callable[[], None] | None = None
        self._bell = threading.Lock()  # rings by its release: an Event costs ten times as much
        self._bell.acquire()

    @property
    def stored(self) -> bool:
        """Whether it is in, so that :meth:`result` has nothing left to do."""
        return self.state is STORED

    @property
    def waits(self) -> bool:
        """Whether a common commit has yet to take it or to leave it."""
        return self.state is WAITING or self.state is NEW

    def begin(self, then: Callable[[], None]) -> None:
        """Call back, from any thread, when :meth:`result` has no common commit to wait for any more; at once if that is so already."""
        self._store.begin(self)
        with self._store.lock:
            if self.waits:
                self._then = then
                return
        then()

    def result(self) -> Answer | None:
        """Wait until it is committed; return an earlier request's answer instead if that had the same key.

        Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`, or :class:`DatabaseUnavailable` when it is not stored for sure.
        """
        if self.waits:
            self._store.begin(self)
            self._bell.acquire()
        return None if self.stored else self._store.settle(self)

    def move(self, state: State, refusal: QuotaExceeded | None = None) -> None:
        """Go on to a state. Raises ``ValueError`` for one that does not follow the present one."""
        if state not in _NEXT[self.state]:
            raise ValueError(f"a pending write that is {self.state.name} does not become {state.name}")
        self.refusal = refusal
        self.state = state

    def leave(self, state: State, refusal: QuotaExceeded | None = None) -> None:
        """Go on from ``WAITING`` to a state, and wake the waiting request."""
        with self._store.lock:
            self.move(state, refusal)
        self._bell.release()
        if self._then:
            self._then()
