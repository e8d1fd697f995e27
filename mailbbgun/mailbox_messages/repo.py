"""Queries on the mail of one mailbox. They take a session and never commit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, exists, func, select, update
from sqlalchemy.orm import Session

from mailbbgun.core.errors import NotFound
from mailbbgun.database.db import dialect_of
from mailbbgun.database.deadline import at_most
from mailbbgun.mailboxes.models import (
    INBOX,
    MAILBOX_MESSAGES,
    MAILBOXES,
    LocalMailbox,
    MailboxContent,
    MailboxMessage,
    MailboxWords,
)
from mailbbgun.mailboxes.store import trace
from mailbbgun.mailboxes.words import have_words
from mailbbgun.messages.find import LIST_SECONDS
from mailbbgun.messages.search import has_text

_TOO_SLOW = f"It takes the database longer than {LIST_SECONDS:g} s to find this mail; narrow the list by `since`."


@dataclass(frozen=True, slots=True)
class WantedMail:
    """Which mail of a mailbox to list. ``since`` is inclusive, ``until`` exclusive; texts are parts, in any case.

    ``search``: words that the mail has, or longer ones that begin with them (``words.searched``).
    """

    tenant_id: UUID
    mailbox_id: UUID
    folder: str | None = None
    read: bool | None = None
    sender: str | None = None
    subject: str | None = None
    to: str | None = None
    search: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 10
    offset: int = 0
    after: UUID | None = None


class FolderCount(NamedTuple):
    """A folder and how much mail is in it."""

    name: str
    messages: int
    unread: int


def page(session: Session, wanted: WantedMail) -> tuple[Sequence[MailboxMessage], int, UUID | None]:
    """Return a page of mail, newest first, how much matches in all, and the last id if more follows.

    Raises :class:`TookTooLong` if the database needs more than :data:`LIST_SECONDS`.
    """
    its = _matching(wanted, dialect_of(session))
    older = [] if wanted.after is None else [MailboxMessage.id < wanted.after]
    statement = select(MailboxMessage).where(*its, *older).order_by(MailboxMessage.id.desc())
    with at_most(session, LIST_SECONDS, _TOO_SLOW):
        count = session.scalar(select(func.count()).select_from(MailboxMessage).where(*its)) or 0
        found = session.scalars(statement.offset(wanted.offset).limit(wanted.limit + 1)).all() if wanted.limit else []
    shown = found[: wanted.limit]
    return shown, count, shown[-1].id if len(found) > wanted.limit else None


def mail(session: Session, tenant_id: UUID, mailbox: UUID, mail_id: UUID) -> MailboxMessage:
    """Return a mail of a mailbox. Raises :class:`NotFound`."""
    statement = select(MailboxMessage).where(*_its(tenant_id, mailbox), MailboxMessage.id == mail_id)
    found = session.scalar(statement.execution_options(populate_existing=True))
    if found is None:
        raise NotFound("There is no such mail in the mailbox.")
    return found


def brought_by(
    session: Session, tenant_id: UUID, deliveries: Collection[UUID]
) -> Mapping[UUID, tuple[UUID, str, str, datetime]]:
    """Return, by delivery, the id, address, folder and time of the mail that it brought into a tenant's mailbox."""
    mail, its = MailboxMessage, LocalMailbox
    columns = (mail.delivery_id, mail.id, its.address, mail.folder, mail.received_at)
    theirs = (mail.tenant_id == tenant_id, its.tenant_id == tenant_id, mail.delivery_id.in_(deliveries))
    rows = session.execute(select(*columns).join(its, its.id == mail.mailbox_id).where(*theirs))
    return {delivery: (mail_id, address, folder, since) for delivery, mail_id, address, folder, since in rows}


def raw(session: Session, one: MailboxMessage) -> bytes:
    """Return the bytes of a mail: the fields that its delivery added, and what was sent."""
    its = (MailboxContent.tenant_id == one.tenant_id, MailboxContent.id == one.content_id)
    sent = session.scalar(select(MailboxContent.raw).where(*its))
    return trace(one.mail_from, one.rcpt_to) + (sent or b"")


def change(session: Session, one: MailboxMessage, values: Mapping[str, Any]) -> None:
    """Change columns of a mail."""
    if values:
        mails = MAILBOX_MESSAGES.c
        its = (mails.tenant_id == one.tenant_id, mails.id == one.id)
        session.execute(update(MAILBOX_MESSAGES).where(*its).values(**values))


def remove(session: Session, one: MailboxMessage) -> None:
    """Delete a mail. Its bytes go later, unless another mailbox has them."""
    mails, its = MAILBOX_MESSAGES.c, MAILBOXES.c
    of = (its.tenant_id == one.tenant_id, its.id == one.mailbox_id)
    session.execute(select(its.id).where(*of).with_for_update(key_share=True))
    gone = delete(MAILBOX_MESSAGES).where(mails.tenant_id == one.tenant_id, mails.id == one.id).returning(mails.size)
    if (size := session.scalar(gone)) is not None:
        less = {"used_messages": its.used_messages - 1, "used_bytes": its.used_bytes - size}
        session.execute(update(MAILBOXES).where(*of).values(**less))


def folders(session: Session, tenant_id: UUID, mailbox: UUID) -> list[FolderCount]:
    """Return the folders that have mail, and INBOX, which is first."""
    unread = func.sum(case((MailboxMessage.read, 0), else_=1))
    counts = select(MailboxMessage.folder, func.count(), unread).where(*_its(tenant_id, mailbox))
    found = [
        FolderCount(name, number, int(new))
        for name, number, new in session.execute(counts.group_by(MailboxMessage.folder).order_by(MailboxMessage.folder))
    ]
    inbox = [one for one in found if one.name == INBOX] or [FolderCount(INBOX, 0, 0)]
    return inbox + [one for one in found if one.name != INBOX]


def _its(tenant_id: UUID, mailbox: UUID) -> tuple[ColumnElement[bool], ...]:
    return (MailboxMessage.tenant_id == tenant_id, MailboxMessage.mailbox_id == mailbox)


def _matching(wanted: WantedMail, dialect: str) -> list[ColumnElement[bool]]:
    its = [*_its(wanted.tenant_id, wanted.mailbox_id)]
    if wanted.folder is not None:
        its.append(MailboxMessage.folder == wanted.folder)
    if wanted.read is not None:
        its.append(MailboxMessage.read == wanted.read)
    if wanted.sender is not None:
        its.append(has_text(MailboxMessage.sender, wanted.sender))
    if wanted.subject is not None:
        its.append(has_text(MailboxMessage.subject, wanted.subject))
    if wanted.to is not None:
        its.append(has_text(MailboxMessage.rcpt_to, wanted.to))
    if wanted.search:
        # The tenant filter takes each part of a statement by itself.
        theirs = (MailboxWords.tenant_id == wanted.tenant_id, MailboxMessage.tenant_id == wanted.tenant_id)
        same = MailboxWords.content_id == MailboxMessage.content_id
        its.append(exists().where(*theirs, same, have_words(MailboxWords.words, wanted.search, dialect)))
    if wanted.since is not None:
        its.append(MailboxMessage.received_at >= wanted.since)
    if wanted.until is not None:
        its.append(MailboxMessage.received_at < wanted.until)
    return its
