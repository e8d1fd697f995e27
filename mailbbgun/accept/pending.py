"""A pending write: a message that waits for its commit, and the states it goes through."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, auto
from typing import Any, Protocol
from uuid import UUID

from mailbbgun.composing.contents import StoredContent
from mailbbgun.core.caller import counts_as
from mailbbgun.core.errors import QuotaExceeded
from mailbbgun.database.idempotency import KeyClaim
from mailbbgun.events import log as events_log
from mailbbgun.events.kinds import Kind
from mailbbgun.limits.duplicates import DuplicateGuard
from mailbbgun.messages import storing
from mailbbgun.messages.status import ERROR, PENDING, Reason

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a message, and the answer to its request."""

    message: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    response: Answer
    #: The tenant's quota: messages a day; None: no quota.
    per_day: int | None = None
    #: What the message is made of, unless it has its MIME.
    content: StoredContent | None = None
    #: Whether the tenant may have suppressed a recipient.
    has_suppressions: bool = False
    #: The claim of a key that guards against duplicates.
    guard: DuplicateGuard | None = None
    #: The id of the message that this one is a duplicate of: it is stored, and not sent.
    duplicate_of: str | None = None

    @property
    def counts_as(self) -> UUID:
        """The id that the quota counts this message under."""
        return counts_as(self.message["tenant_id"], test=self.message["test"])

    @property
    def stored_bytes(self) -> int:
        """About how many bytes the rows take."""
        return self.message["size"] if self.content is None else len(self.content.made_of)


def with_suppressed(rows: Rows, addresses: Collection[str]) -> Rows:
    """Return the rows of a message of which these recipients are suppressed, and the answer that names them."""
    if not addresses:
        return rows
    ended = {"status": ERROR, "reason": Reason.SUPPRESSED.value, "next_attempt_at": None}
    deliveries = [one | ended if one["address"] in addresses else one for one in map(dict, rows.deliveries)]
    status = ERROR if all("status" in one for one in deliveries) else PENDING
    told = [one["address"] for one in deliveries if "status" in one]
    return replace(
        rows,
        message={**rows.message, "status": status},
        deliveries=deliveries,
        response={**rows.response, "status": status, "suppressed": told},
    )


def held(rows: Rows, first: str) -> Rows:
    """Return the rows of a duplicate of the message ``first``, which are stored as not to be sent."""
    ended = {"status": ERROR, "reason": Reason.DUPLICATE.value, "next_attempt_at": None}
    return replace(
        rows,
        message={**rows.message, "status": ERROR},
        deliveries=[one if "status" in one else {**one, **ended} for one in rows.deliveries],
        response={**rows.response, "status": ERROR, "duplicate_of": first},
        guard=None,
        duplicate_of=first,
    )


class State(IntEnum):
    """The state of a pending write. ``_NEXT`` lists which state may follow which."""

    NEW = auto()  #: Nobody has asked for the result yet.
    WAITING = auto()  #: It waits for a shared commit.
    ALONE = auto()  #: No shared commit will take it: the thread that asks for the result writes it.
    STORED = auto()
    ANSWERED = auto()  #: An earlier request had the same key, or sent the same mail; its answer is the result.
    OVER_QUOTA = auto()  #: The tenant's quota is used up.


# Module-level names and an IntEnum: looking a member up in its class costs 0.2 µs, hashing an Enum's
# member 0.3 µs.
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
    """The part of :class:`~mailbbgun.accept.store.Store` that a pending write uses."""

    lock: threading.Lock

    def begin(self, pending: "PendingWrite") -> None:
        """Begin to store the message; do nothing if that has begun."""

    def settle(self, pending: "PendingWrite") -> Answer | None:
        """Finish a write that no shared commit has stored; return an earlier request's answer, if any."""


class PendingWrite:
    """A message on its way into the database. Storing starts with :meth:`begin` or :meth:`result`.

    One thread at a time changes its state: the request's, then the store's, then the request's again.
    """

    __slots__ = ("_bell", "_store", "_then", "after_commit", "duplicate", "key_claim", "refusal", "rows", "state")

    def __init__(self, store: Writer, rows: Rows, key_claim: KeyClaim | None, after_commit: Callable[[], None]) -> None:
        self.rows = rows
        self.key_claim = key_claim
        self.after_commit = after_commit
        self.state = NEW
        self.refusal: QuotaExceeded | None = None  # set if OVER_QUOTA
        self.duplicate: Answer | None = None  # the answer to a duplicate, which is not stored
        self._store = store
        self._then: Callable[[], None] | None = None
        # Released when the state is no longer WAITING: a threading.Event costs ten times as much.
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def claims(self) -> list[str]:
        """What no other message of the same commit may claim too: its key, and its mail."""
        claims = [self.key_claim.key] if self.key_claim else []
        return [*claims, self.rows.guard.digest] if self.rows.guard else claims

    def repeats(self, message_id: UUID, answer: Answer) -> Answer:
        """Make this a duplicate of another message, whose request had this answer; return the new answer."""
        assert self.rows.guard is not None  # else nobody would know
        if self.rows.guard.holds:
            self.rows = held(self.rows, str(message_id))
            return self.rows.response
        self.duplicate = {**answer, "duplicate_of": str(message_id)}
        return self.duplicate

    @property
    def stored(self) -> bool:
        """Whether the message is committed, so that :meth:`result` has nothing left to do."""
        return self.state is STORED

    @property
    def waits(self) -> bool:
        """Whether a shared commit may still take the message."""
        return self.state is WAITING or self.state is NEW

    def begin(self, then: Callable[[], None]) -> None:
        """Begin to store the message. ``then`` is called, by any thread, as soon as :meth:`result`
        need not wait for a shared commit; at once if that is so already.
        """
        self._store.begin(self)
        with self._store.lock:
            if self.waits:
                self._then = then
                return
        then()

    def result(self) -> Answer | None:
        """Wait until the message is committed; return the answer of an earlier request with its key.

        None: there was no such request. Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`,
        and :class:`DatabaseUnavailable` if it is not certain that the message is stored.
        """
        if self.waits:
            self._store.begin(self)
            self._bell.acquire()
        return None if self.stored else self._store.settle(self)

    def move(self, state: State, refusal: QuotaExceeded | None = None) -> None:
        """Change the state. Raises ``ValueError`` if the new one may not follow the present one."""
        if state not in _NEXT[self.state]:
            raise ValueError(f"a pending write that is {self.state.name} does not become {state.name}")
        self.refusal = refusal
        self.state = state

    def wake(self, state: State, refusal: QuotaExceeded | None = None) -> None:
        """Change the state from ``WAITING``, and wake the waiting request."""
        with self._store.lock:
            self.move(state, refusal)
        self._bell.release()
        if self._then:
            self._then()


def contents(batch: Sequence[PendingWrite]) -> list[StoredContent]:
    """Return the contents that messages are made of, each once."""
    found = {pending.rows.content.id: pending.rows.content for pending in batch if pending.rows.content}
    return [*found.values()] if found else []


def key_ids(new: storing.New, events: Sequence[Mapping[str, Any]]) -> list[UUID | None]:
    """Return the API key of each event's message."""
    if len(events) == len(new):  # nearly always: each message has its first event alone
        return [message["key_id"] for message, _ in new]
    keys = {message["id"]: message["key_id"] for message, _ in new}
    return [keys[event["message_id"]] for event in events]


def held_events(rows: Rows) -> list[dict[str, Any]]:
    """Return an event for each delivery of a duplicate that is stored."""
    if rows.duplicate_of is None:
        return []
    whose, data = (rows.message["tenant_id"], rows.message["id"]), {"duplicate_of": rows.duplicate_of}
    its = [one["id"] for one in rows.deliveries if one["reason"] == Reason.DUPLICATE]
    return [events_log.event(*whose, one, Kind.DUPLICATE, data) for one in its]


def claims_of(batch: Sequence[PendingWrite]) -> dict[KeyClaim, tuple[PendingWrite, tuple[UUID, Answer]]]:
    """Return the claims of messages on keys, each with the message, and its id and answer."""
    return {
        pending.key_claim: (pending, (pending.rows.message["id"], pending.rows.response))
        for pending in batch
        if pending.key_claim
    }


def log_fields(pending: PendingWrite) -> Mapping[str, Any]:
    """Return the fields of a log line about a message."""
    message = pending.rows.message
    return {"message_id": message["id"], "tenant_id": message["tenant_id"], "key_id": message.get("key_id")}


def new_rows(batch: Sequence[PendingWrite]) -> storing.New:
    """Return messages as they are stored."""
    return [(pending.rows.message, pending.rows.deliveries) for pending in batch]
