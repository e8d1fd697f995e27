"""The verb: take a submission, store it, answer. Commit first, then hint; no request waits for the queue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailbbgun.accept import idempotency
from mailbbgun.accept.checks import check
from mailbbgun.accept.draft import Draft, Submission
from mailbbgun.accept.store import Rows, Store
from mailbbgun.base.ids import new_id
from mailbbgun.base.settings import Settings
from mailbbgun.messages import mime
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.lanes import lane_of


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a door answers. ``replayed``: the answer to an earlier request with the same key."""

    id: str
    status: str
    subject: str
    replayed: bool = False


def accept(settings: Settings, store: Store, publisher: Publisher, submission: Submission, key: str | None = None) -> Accepted:
    """Store a message durably and see that it gets hinted.

    Raises :class:`InvalidInput`, :class:`IdempotencyMismatch`, or :class:`DatabaseUnavailable` when it is not stored for sure.
    """
    draft = check(submission, settings)
    claim = None if key is None else idempotency.claim_of(key, submission)
    rows = _composed(draft, settings)
    first = store.store(rows, claim)
    if first is not None:
        return Accepted(first["id"], first["status"], first["subject"], replayed=True)
    publisher.offer(lane_of(draft.priority), rows.message["id"])
    return Accepted(**rows.response)


def _composed(draft: Draft, settings: Settings) -> Rows:
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
        "created_at": now,
        "subject": draft.subject,
        "sender": str(draft.sender),
        "mail_from": draft.sender.address,
        "message_id": message_id,
        "priority": draft.priority,
        "smtputf8": draft.smtputf8,
        "size": len(raw),
        "tags": draft.tags,
        "metadata": draft.metadata,
        "raw": raw,
    }
    response = {"id": str(identifier), "status": PENDING, "subject": draft.subject}
    return Rows(message, _deliveries(draft, identifier), response)


def _deliveries(draft: Draft, message_id: UUID) -> list[Mapping[str, Any]]:
    lane = lane_of(draft.priority)
    return [{"id": new_id(), "message_id": message_id, "address": address, "kind": kind, "lane": lane} for address, kind in draft.recipients.items()]
