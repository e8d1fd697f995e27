"""The tables of mailboxes, their aliases, and the mail in them."""

from collections.abc import Collection
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime
from mailbbgun.mailboxes.words import Words

#: The folder that new mail comes to.
INBOX = "INBOX"
#: The folder of mail that a domain's policy does not trust, and the field that says so and why. Only a message's
#: first field counts: before mail of other servers, the MX port writes that.
QUARANTINE, QUARANTINE_FIELD = "Quarantine", "X-MBG-Quarantine"
#: Characters of a folder's name, at most.
FOLDER_SIZE = 200


class LocalMailbox(Owned, Base):
    """A mailbox of an address at a local domain of its tenant."""

    __tablename__ = "mailboxes"
    __table_args__ = (
        Index("uq_mailboxes_tenant_id_address", "tenant_id", "address", unique=True),
        Index("uq_mailboxes_tenant_id_catch_all_for", "tenant_id", "catch_all_for", unique=True),
        Index("ix_mailboxes_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: As ``core/addresses.py`` returns it, in lower case.
    address: Mapped[str] = mapped_column(Text)
    #: Bytes and messages that it takes, at most. Null: no limit.
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    quota_messages: Mapped[int | None] = mapped_column(Integer)
    #: What is in it. Whoever changes that locks this row first.
    used_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    used_messages: Mapped[int] = mapped_column(Integer, server_default="0")
    #: The domain whose unknown addresses it takes the mail of, too. Null: of none.
    catch_all_for: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())


class MailboxAlias(Owned, Base):
    """Another address of a mailbox. It is no address of a mailbox of the same tenant."""

    __tablename__ = "mailbox_aliases"
    __table_args__ = (
        Index("uq_mailbox_aliases_tenant_id_address", "tenant_id", "address", unique=True),
        Index("ix_mailbox_aliases_mailbox_id", "mailbox_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    address: Mapped[str] = mapped_column(Text)
    mailbox_id: Mapped[UUID] = mapped_column(ForeignKey("mailboxes.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())


class MailboxContent(Owned, Base):
    """The bytes of mail in mailboxes: one row for all recipients of a transaction at one tenant's domains.

    A row that no mail needs is deleted after a day, unless its delivery is pending (``expire.py``).
    """

    __tablename__ = "mailbox_contents"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: The delivery that it was stored for, or one of several.
    delivery_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    raw: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class MailboxWords(Owned, Base):
    """The words of a content, to search for mail by (``words.py``). It is deleted with it.

    It is a table of its own: on SQLite, whatever is in a row with the bytes is found behind them.
    """

    __tablename__ = "mailbox_words"
    __table_args__ = (
        # On SQLite the index is empty: no condition there could use it.
        Index("ix_mailbox_words_words", "words", postgresql_using="gin", sqlite_where=text("words IS NULL")),
    )

    content_id: Mapped[UUID] = mapped_column(ForeignKey("mailbox_contents.id", ondelete="CASCADE"), primary_key=True)
    words: Mapped[Collection[str]] = mapped_column(Words(), deferred=True)


class MailboxMessage(Owned, Base):
    """A mail in a mailbox. Its bytes are ``store.trace`` of it, and then those of its content."""

    __tablename__ = "mailbox_messages"
    __table_args__ = (
        Index("uq_mailbox_messages_delivery_id", "delivery_id", unique=True),
        Index("ix_mailbox_messages_mailbox_id_folder_id", "mailbox_id", "folder", "id"),
        Index("ix_mailbox_messages_content_id", "content_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    mailbox_id: Mapped[UUID] = mapped_column(ForeignKey("mailboxes.id", ondelete="CASCADE"))
    content_id: Mapped[UUID] = mapped_column(ForeignKey("mailbox_contents.id"))
    #: The delivery that brought it: each brings one.
    delivery_id: Mapped[UUID]
    #: The message of that delivery, which may be deleted earlier, and be another tenant's.
    message_id: Mapped[UUID]
    folder: Mapped[str] = mapped_column(String(FOLDER_SIZE), server_default=INBOX)
    read: Mapped[bool] = mapped_column(server_default=false())
    flagged: Mapped[bool] = mapped_column(server_default=false())
    received_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: The envelope's sender ("": the null sender), and the recipient that it was addressed to.
    mail_from: Mapped[str] = mapped_column(Text)
    rcpt_to: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    #: The From header, as people read it.
    sender: Mapped[str] = mapped_column(Text)
    #: The Message-ID header; empty if it has none.
    message_id_header: Mapped[str] = mapped_column(Text)
    #: Octets of the mail.
    size: Mapped[int]
    has_attachments: Mapped[bool]


MAILBOXES, ALIASES, MAILBOX_CONTENTS, MAILBOX_WORDS, MAILBOX_MESSAGES = (
    cast(Table, model.__table__) for model in (LocalMailbox, MailboxAlias, MailboxContent, MailboxWords, MailboxMessage)
)
