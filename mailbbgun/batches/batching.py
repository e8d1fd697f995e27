"""The verb: check a batch and store it. Every message of it then goes the way of all messages."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from mailbbgun.accept.fields import Fields, Options
from mailbbgun.batches.store import BatchStore, NewBatch
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.core.ids import new_id
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import ACCEPTED
from mailbbgun.database import idempotency
from mailbbgun.database.compiled import StatementStep
from mailbbgun.queues.lanes import NORMAL, OVERFLOW, lane_of, shown
from mailbbgun.recipients.faults import Faults, refused

ALL_OR_NOTHING, PARTIAL = "all_or_nothing", "partial"

log = logging.getLogger("mailbbgun.accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBatch:
    """A batch as a client gave it: ``recipients`` of one content, or whole ``messages``.

    ``common`` and ``options`` are what the recipients' mails share; ``variables`` are for recipients that
    give no other value. ``defaults`` are fields, by their names in JSON, for messages that lack them.
    ``asked`` is the whole request, for the fingerprint of its ``Idempotency-Key``. ``source`` is what the
    batch is made of, such as rows of a file: a second batch of the same source is not stored.
    """

    common: Fields
    options: Options
    recipients: Sequence[Any] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Any] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    mode: str = ALL_OR_NOTHING
    asked: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None

    @property
    def items(self) -> Sequence[Any]:
        """The recipients, or the messages."""
        return self.recipients or self.messages

    @property
    def name(self) -> str:
        """The field with the items."""
        return "recipients" if self.recipients else "messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The messages of a batch, checked. ``ids`` and ``indexes`` are parallel: the place of each in the request.

    ``steps`` returns the statements that store them, and ``after_commit`` hands their hints to the queue.
    ``suppressed``: recipients to whom nothing will be sent.
    """

    ids: Sequence[UUID]
    indexes: Sequence[int]
    subject: str
    steps: Callable[[str], Sequence[StatementStep]]
    after_commit: Callable[[], None]
    suppressed: Sequence[str] = ()


class BatchForm(Protocol):
    """Checks the items of a batch, and prepares the messages of those without a fault."""

    def prepare(
        self, given: GivenBatch, caller: Caller, batch_id: UUID, now: datetime, faults: dict[int, Faults]
    ) -> Prepared | None:
        """Add the faults of items to ``faults``; return the others' messages, or None if there is none.

        Raises :class:`InvalidInput` for a fault of what all share.
        """


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What a door answers. ``replayed``: it is the answer to an earlier request with the same key."""

    answer: Mapping[str, Any]
    replayed: bool = False


class Batcher:
    """Accepts batches, of either form."""

    def __init__(
        self, store: BatchStore, personal: BatchForm, whole: BatchForm, counters: Counters | None = None
    ) -> None:
        """``personal`` prepares batches of recipients, ``whole`` those of whole messages."""
        self._counters = counters or Counters()
        self._store, self._personal, self._whole = store, personal, whole

    def remember(self, seconds: int) -> None:
        """Remember each Idempotency-Key for so long."""
        self._store.remembered = seconds

    def accept(
        self, given: GivenBatch, caller: Caller, told: Callable[[Mapping[int, Faults]], None] = lambda _: None
    ) -> StoredBatch:
        """Check a batch and store it durably; the hints follow the commit.

        ``told`` is called with the faults of items, before anything is stored.

        Raises :class:`InvalidInput` if the common part has a fault, if no item is without one, or, with
        ``all_or_nothing``, if one has. Raises :class:`QuotaExceeded` and what :meth:`BatchStore.store` does.
        """
        key_claim = None
        if given.options.idempotency_key is not None:
            key_claim = idempotency.claim_of(caller, given.options.idempotency_key, given.asked)
        batch_id, now = new_id(), datetime.now(UTC)
        faults: dict[int, Faults] = {}
        try:
            prepared = self._prepared(given, caller, batch_id, now, faults, told)
        except (InvalidInput, TooLarge):
            # What was valid when the first request with the key came may be no more: useful_until passes.
            if (
                key_claim
                and (earlier := self._store.earlier(key_claim))
                and earlier.fingerprint == key_claim.fingerprint
            ):
                return StoredBatch(earlier.response, replayed=True)
            raise
        response = _response(batch_id, prepared, len(given.items), faults)
        row = _row(batch_id, caller, now, prepared, len(faults)) | {"source": given.source}
        new = NewBatch(row, prepared.steps, response, caller.counts_as, caller.messages_per_day)
        if (first := self._store.store(new, key_claim)) is not None:
            return StoredBatch(first, replayed=True)
        self._counters.add(ACCEPTED, shown(lane_of_batch(given.options.priority)), n=new.n)
        try:
            prepared.after_commit()
        except Exception:  # the batch is stored, and its request must get its answer all the same
            log.exception("after_commit_failed", extra={"batch_id": batch_id, "tenant_id": caller.tenant_id})
        return StoredBatch(response)

    def _prepared(
        self,
        given: GivenBatch,
        caller: Caller,
        batch_id: UUID,
        now: datetime,
        faults: dict[int, Faults],
        told: Callable[[Mapping[int, Faults]], None],
    ) -> Prepared:
        form = self._personal if given.recipients else self._whole
        prepared = form.prepare(given, caller, batch_id, now, faults)
        told(faults)
        if prepared is None or (faults and given.mode == ALL_OR_NOTHING):
            raise refused(given.name, len(given.items), faults)
        return prepared


def lane_of_batch(priority: int) -> str:
    """Return the lane of a batch's message.

    Normal ones take the overflow lane, so that no single mail waits behind them.
    """
    lane = lane_of(priority)
    return OVERFLOW if lane == NORMAL else lane


def _row(batch_id: UUID, caller: Caller, now: datetime, prepared: Prepared, refused: int) -> dict[str, Any]:
    return {
        "id": batch_id,
        "tenant_id": caller.tenant_id,
        "created_at": now,
        "key_id": caller.key_id,
        "test": caller.tests_only,
        "subject": prepared.subject,
        "messages": len(prepared.ids),
        "refused": refused,
        "first_id": prepared.ids[0],
        "last_id": prepared.ids[-1],
        "cancelled_at": None,
    }


def _response(batch_id: UUID, prepared: Prepared, items: int, faults: Mapping[int, Faults]) -> dict[str, Any]:
    ids: list[UUID | None] = [None] * items
    for index, identifier in zip(prepared.indexes, prepared.ids, strict=True):
        ids[index] = identifier
    told = {"suppressed": list(prepared.suppressed)} if prepared.suppressed else {}
    return {
        **told,
        "batch_id": batch_id,
        "accepted": len(prepared.ids),
        "refused": len(faults),
        "ids": ids,
        "errors": [{"index": index, "fields": faults[index]} for index in sorted(faults)],
    }
