"""The verb: take a submission, store it, answer. Commit first, then hint; no request waits for the queue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.accept import idempotency
from mailbbgun.accept.checks import check
from mailbbgun.accept.draft import Draft, Submission
from mailbbgun.accept.idempotency import Claim
from mailbbgun.base.db import Database
from mailbbgun.base.errors import DatabaseUnavailable
from mailbbgun.base.ids import new_id
from mailbbgun.base.settings import Settings
from mailbbgun.events import record
from mailbbgun.messages import mime, repo
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.lanes import lane_of
from mailbbgun.services import Services


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a door answers. ``replayed``: the answer to an earlier request with the same key."""

    id: str
    status: str
    subject: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Rows:
    message: Mapping[str, Any]
    deliveries: list[Mapping[str, Any]]
    response: Mapping[str, Any]


def accept(services: Services, publisher: Publisher, submission: Submission, key: str | None = None) -> Accepted:
    """Store a message durably and see that it gets hinted.

    Raises :class:`InvalidInput`, :class:`IdempotencyMismatch`, or :class:`DatabaseUnavailable` when it is not stored for sure.
    """
    settings = services.settings
    draft = check(submission, settings)
    claim = None if key is None else idempotency.claim_of(key, submission)
    rows = _composed(draft, settings)
    first = _stored(services.db, rows, claim, settings.IDEMPOTENCY_SECONDS)
    if first is not None:
        return Accepted(first["id"], first["status"], first["subject"], replayed=True)
    publisher.offer(lane_of(draft.priority), rows.message["id"])
    return Accepted(**rows.response)


def _composed(draft: Draft, settings: Settings) -> _Rows:
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
    return _Rows(message, _deliveries(draft, identifier), response)


def _deliveries(draft: Draft, message_id: UUID) -> list[Mapping[str, Any]]:
    lane = lane_of(draft.priority)
    return [{"id": new_id(), "message_id": message_id, "address": address, "kind": kind, "lane": lane} for address, kind in draft.recipients.items()]


def _stored(database: Database, rows: _Rows, claim: Claim | None, seconds: int) -> Mapping[str, Any] | None:
    """Commit the rows; return an earlier request's answer instead if it had the same key."""
    try:
        with database.write() as session:
            return _written(session, rows, claim, seconds)
    except DatabaseUnavailable:
        # The connection may have broken after the commit: look before trying again, and try only once.
        if _is_stored(database, rows):
            return None
    try:
        with database.write() as session:
            return _written(session, rows, claim, seconds)
    except IntegrityError:
        if not _is_stored(database, rows):  # the first commit came through after the look
            raise
        return None


def _written(session: Session, rows: _Rows, claim: Claim | None, seconds: int) -> Mapping[str, Any] | None:
    if claim and not idempotency.take(session, claim, rows.message["id"], rows.response, seconds):
        return idempotency.replay(session, claim)
    record.accepted(session, rows.message, rows.deliveries)
    return None


def _is_stored(database: Database, rows: _Rows) -> bool:
    with database.read() as session:
        return repo.exists(session, rows.message["id"])
