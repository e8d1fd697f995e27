"""Keeps mail in mailboxes: the destination of mail to local domains (``relays/local.py``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, bindparam, false, select
from sqlalchemy.dialects import postgresql, sqlite

from mailbbgun.composing.reading import shown
from mailbbgun.core.ids import new_id
from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.db import Database, db_now
from mailbbgun.domains.local import LocalDomains
from mailbbgun.mailboxes import maildirs
from mailbbgun.mailboxes.models import (
    INBOX,
    MAILBOX_CONTENTS,
    MAILBOX_MESSAGES,
    MAILBOX_WORDS,
    MAILBOXES,
    QUARANTINE,
    QUARANTINE_FIELD,
)
from mailbbgun.mailboxes.quota import QuotaGate, counting
from mailbbgun.mailboxes.resolve import NOT_LOCAL, FoundMailbox, resolve
from mailbbgun.mailboxes.words import words_of
from mailbbgun.mime_reading.read import searchable
from mailbbgun.relays.local import HOMELESS
from mailbbgun.services import Services
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, DeliveryIds, Outcome, Phase
from mailbbgun.smtp.reply import Reply

#: Octets of a mail from which on its content has a commit of its own, before the result's, which others share.
LARGE = 65_536
#: Characters of a subject that are kept.
SUBJECT_SIZE = 1000

STORED = Reply(250, "2.1.5", "stored in a mailbox here")

#: Columns of a mail in a mailbox whose values the effect gives.
_GIVEN = (
    *("id", "tenant_id", "content_id", "delivery_id", "message_id", "mail_from", "rcpt_to", "subject", "sender"),
    *("message_id_header", "size", "has_attachments", "folder"),
)

_GATE = QuotaGate()

_QUARANTINED = f"{QUARANTINE_FIELD}:".encode()


def trace(mail_from: str, rcpt_to: str) -> bytes:
    """Return the fields before a mail that its delivery adds (RFC 5321 §4.4)."""
    return f"Return-Path: <{mail_from}>\r\nDelivered-To: {rcpt_to}\r\n".encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Stored:
    """The effect of a delivery: a mail is in a mailbox, and is counted there.

    ``content`` is the row of its bytes, with its words, if that is not stored yet. Deliveries that share it may name it
    several times. ``octets``: those of the mail, without the trace of its delivery.
    """

    mailbox_id: UUID
    mail: Mapping[str, Any]
    content: Mapping[str, Any] | None
    octets: int
    gate: QuotaGate = _GATE

    @property
    def changes(self) -> Sequence[UUID]:
        """No other delivery."""
        return ()

    @property
    def makes_due(self) -> bool:
        """It makes no deliveries."""
        return False

    def steps(self, statements: Statements, delivery: DeliveryIds) -> Sequence[StatementStep]:
        """Return the statements that store the mail. A mailbox that was just deleted gets none."""
        its = {"delivery_id": delivery.delivery_id, "message_id": delivery.message_id, "mailbox": self.mailbox_id}
        values = [{**self.mail, **its}]
        steps = [StatementStep(counting(), values), StatementStep(_mail(statements.dialect), values)]
        return steps if self.content is None else [*_content(statements.dialect, self.content), *steps]


class MailboxStore:
    """The destination of mail to local domains. Thread-safe."""

    def __init__(self, services: Services, domains: LocalDomains) -> None:
        self._database: Database = services.db
        self._domains = domains
        self._root = Path(services.settings.MAILDIR_ROOT) if services.settings.MAILDIR_ROOT else None

    def takes(self, domain: str, tenant_id: UUID | None) -> bool:
        """Return whether a domain is local, to mail of this tenant. See ``relays/local.py``."""
        local = self._domains.of(domain)
        return local is not None and (tenant_id is None or local.takes_from(tenant_id))

    def deliver(self, envelope: Envelope) -> Mapping[str, Outcome]:
        """Find the mailbox of each recipient, and return the outcome that stores the mail there."""
        raw = envelope.raw if isinstance(envelope.raw, bytes) else b"".join(envelope.raw.octets())
        found = resolve(self._database, self._domains, envelope.recipients, len(raw))
        outcomes: dict[str, Outcome] = {}
        contents: dict[UUID, tuple[UUID, Mapping[str, Any] | None]] = {}
        about = _about(raw)
        for one, mailbox in found.items():
            if mailbox == NOT_LOCAL:  # it was, a moment ago
                outcomes[one] = HOMELESS
                continue
            if not isinstance(mailbox, FoundMailbox):
                kind = Bounced if mailbox.code >= 500 else Deferred
                outcomes[one] = kind(mailbox, Phase.RCPT)
                continue
            if mailbox.tenant_id not in contents:
                contents[mailbox.tenant_id] = self._content(mailbox.tenant_id, envelope.deliveries[one], raw)
            content_id, content = contents[mailbox.tenant_id]
            size = len(raw) + len(trace(envelope.mail_from, one))
            mail = {"id": new_id(), "tenant_id": mailbox.tenant_id, "content_id": content_id, **about, "size": size}
            mail |= {"mail_from": envelope.mail_from, "rcpt_to": one}
            if self._root is not None:
                pieces = (trace(envelope.mail_from, one), raw)
                its = envelope.deliveries[one]
                folder, again = about["folder"], envelope.repeated
                maildirs.write(self._root, mailbox.address, folder, its, pieces, repeated=again)
            outcomes[one] = Delivered(STORED, effect=Stored(mailbox.id, mail, content, len(raw)))
        return outcomes

    def _content(self, tenant_id: UUID, delivery_id: UUID, raw: bytes) -> tuple[UUID, Mapping[str, Any] | None]:
        """Return the id of a new content, and its row, which the effect is to store; None if that is done."""
        identifier = new_id()
        content = {"id": identifier, "tenant_id": tenant_id, "delivery_id": delivery_id, "raw": raw}
        content |= {"created_at": datetime.now(UTC), "words": words_of(searchable(raw))}
        if len(raw) < LARGE:
            return identifier, content
        self._database.commit(_content(self._database.dialect, content))
        return identifier, None


def _about(raw: bytes) -> dict[str, Any]:
    """Return the columns about a mail that its header decides."""
    folder = QUARANTINE if raw.startswith(_QUARANTINED) else INBOX
    sender, subject, message_id_header, has_attachments = shown(raw)
    return {
        "subject": subject[:SUBJECT_SIZE],
        "sender": str(sender) if sender.address else sender.name,
        "message_id_header": message_id_header,
        "has_attachments": has_attachments,
        "folder": folder,
    }


def _content(dialect: str, content: Mapping[str, Any]) -> list[StatementStep]:
    """Return the statements that store a content and its words, unless they are there."""
    return [StatementStep(one, [content]) for one in _contents(dialect)]


@cache
def _contents(dialect: str) -> tuple[CompiledStatement, CompiledStatement]:
    inserting = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = ("id", "tenant_id", "delivery_id", "created_at", "raw")
    values = {name: bindparam(name, type_=MAILBOX_CONTENTS.c[name].type) for name in columns}
    words = {name: bindparam(name, type_=MAILBOX_WORDS.c[name].type) for name in ("tenant_id", "words")}
    words["content_id"] = bindparam("id", type_=Uuid())
    return (
        CompiledStatement(inserting(MAILBOX_CONTENTS).values(values).on_conflict_do_nothing()),
        CompiledStatement(inserting(MAILBOX_WORDS).values(words).on_conflict_do_nothing()),
    )


@cache
def _mail(dialect: str) -> CompiledStatement:
    """Return the statement that stores a mail, if its mailbox still exists. It waits for a delete of that."""
    values: dict[str, Any] = {name: bindparam(name, type_=MAILBOX_MESSAGES.c[name].type) for name in _GIVEN}
    values |= {"mailbox_id": MAILBOXES.c.id, "received_at": db_now()}
    values |= {"read": false(), "flagged": false()}
    there = select(*values.values()).where(MAILBOXES.c.id == bindparam("mailbox", type_=Uuid()))
    inserting = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = inserting(MAILBOX_MESSAGES).from_select(
        list(values), there.with_for_update(read=True, key_share=True), include_defaults=False
    )
    return CompiledStatement(statement.on_conflict_do_nothing())
