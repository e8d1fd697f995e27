"""The verb: take a submission, store it, answer. Commit first, then hint; no request waits for the queue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailbbgun.accept.checks import check
from mailbbgun.accept.draft import Draft, Submission
from mailbbgun.accept.store import PendingWrite, Rows, Store
from mailbbgun.core.caller import Caller
from mailbbgun.core.ids import new_id
from mailbbgun.database import idempotency
from mailbbgun.messages import mime
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import PENDING
from mailbbgun.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a door answers. ``replayed``: the answer to an earlier request with the same key."""

    id: str
    status: str
    subject: str
    replayed: bool = False


class Accepting:
    """A submission that is valid. It is stored from when :meth:`tell` or :meth:`result` is called."""

    def __init__(self, pending: PendingWrite) -> None:
        self._storing = pending

    @property
    def ended(self) -> bool:
        """Whether :meth:`result` has its answer at hand."""
        return self._storing.stored

    def tell(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, when it has ended, or when :meth:`result` has something to do for that."""
        self._storing.tell(callback)

    def result(self) -> Accepted:
        """Wait until it is stored durably.

        Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`, or :class:`DatabaseUnavailable` when it is not stored for sure.
        """
        first = self._storing.result()
        return Accepted(**self._storing.rows.response) if first is None else Accepted(**first, replayed=True)


def accept(
    settings: Settings,
    store: Store,
    publisher: Publisher,
    caller: Caller,
    submission: Submission,
    key: str | None = None,
) -> Accepting:
    """Take a message of a caller's that is to be stored durably, and hinted when it is. Raises :class:`InvalidInput`, :class:`QuotaExceeded`."""
    draft = check(submission, settings, caller)
    claim = None if key is None else idempotency.claim_of(caller, key, _given(submission))
    lane = publisher.lane(caller.counts_as, draft.priority)
    rows = _composed(draft, settings, caller, lane)
    identifier = rows.message["id"]
    return Accepting(store.pending(rows, claim, lambda: publisher.offer(lane, identifier)))


def _given(submission: Submission) -> Mapping[str, Any]:
    # What is not given is left out, so that a field added later does not change old fingerprints.
    return {
        one.name: value for one in fields(submission) if (value := getattr(submission, one.name)) not in (None, (), {})
    }


def _composed(draft: Draft, settings: Settings, caller: Caller, lane: str) -> Rows:
    identifier, now = new_id(), datetime.now(UTC)
    message_id = draft.message_id or f"<{identifier}@{settings.HOSTNAME}>"
    raw = mime.compose(
        sender=draft.sender,
        to=draft.to,
        cc=draft.cc,
        reply_to=draft.reply_to,
        subject=draft.subject,
        text=draft.text,
        html=draft.html,
        headers=draft.headers,
        message_id=message_id,
        date=now,
    )
    message = {
        "id": identifier,
        "tenant_id": caller.tenant_id,
        "key_id": caller.key_id,
        "test": caller.tests_only,
        "created_at": now,
        "subject": draft.subject,
        "sender": str(draft.sender),
        "mail_from": draft.envelope_from,
        "message_id": message_id,
        "priority": draft.priority,
        "smtputf8": draft.smtputf8,
        "size": len(raw),
        "tags": draft.tags,
        "metadata": draft.metadata,
        "raw": raw,
    }
    response = {"id": str(identifier), "status": PENDING, "subject": draft.subject}
    return Rows(message, _deliveries(draft, caller.tenant_id, identifier, lane), response, caller.messages_per_day)


def _deliveries(draft: Draft, tenant_id: UUID, message_id: UUID, lane: str) -> list[Mapping[str, Any]]:
    shared = {"tenant_id": tenant_id, "message_id": message_id, "lane": lane}
    return [{"id": new_id(), "address": address, "kind": kind, **shared} for address, kind in draft.recipients.items()]
