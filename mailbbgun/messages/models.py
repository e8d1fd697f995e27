"""Tables of messages, of what they are made of, of deliveries and tags."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, ascii_lower
from mailbbgun.database.leasing import LeaseColumns
from mailbbgun.database.texts import domain_of, mailbox_in

_IDLE = "status = 'PENDING' AND lease_owner IS NULL"


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


class Message(Owned, Base):
    """A message: its MIME, or what that is composed of. Every attempt sends the same bytes.

    ``raw`` is the MIME of a plain message. A message with files, other forms of its text, or values of
    its own has ``content_id`` and ``personal`` instead, and ``composing/`` makes its MIME of them
    (of ``id``, ``created_at``, ``message_id`` and ``subject``, too). A message with neither has lost
    its body to retention.
    """

    __tablename__ = "messages"
    __table_args__ = (
        Index("ix_messages_tenant_id_id", "tenant_id", "id"),
        Index("ix_messages_tenant_id_status_id", "tenant_id", "status", "id"),
        # For the sweep that looks for contents without a message.
        _partial("ix_messages_content_id", "content_id", where="content_id IS NOT NULL"),
        # Only Message-IDs that clients gave. Our own begin with the message's id and are found by it, so most
        # messages cost this index nothing.
        Index(
            "ix_messages_tenant_id_message_id",
            "tenant_id",
            "message_id",
            postgresql_where=text("substr(message_id, 2, 36) <> id::text"),
            sqlite_where=text("replace(substr(message_id, 2, 36), '-', '') <> id"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    status: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(Text)
    #: The From header, as people read it.
    sender: Mapped[str] = mapped_column(Text)
    #: The envelope's sender (RFC 5321 §4.1.1.2).
    mail_from: Mapped[str] = mapped_column(Text)
    #: The Message-ID header.
    message_id_header: Mapped[str] = mapped_column("message_id", Text)
    priority: Mapped[int] = mapped_column(SmallInteger)
    #: Whether each server on the way must support RFC 6531.
    smtputf8: Mapped[bool]
    #: The API key that sent it. Null: none did, or it was sent before this was recorded.
    key_id: Mapped[UUID | None]
    #: Whether a test key sent it. Then it goes to the catcher, whatever accounts there are.
    test: Mapped[bool] = mapped_column(server_default=false())
    #: Whether another server sent it to a mailbox here.
    received: Mapped[bool] = mapped_column(server_default=false())
    size: Mapped[int]
    #: When its first attempt is due. Null: as soon as it was accepted.
    send_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    #: Once this has passed no attempt begins. Null: RETRY_DELAYS alone end the attempts.
    useful_until: Mapped[datetime | None] = mapped_column(UTCDateTime())
    tags: Mapped[list[str]] = mapped_column(JSON)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    #: The batch that it came with; its rows' ids are in the range that the batch's row names.
    batch_id: Mapped[UUID | None]
    #: The trace of the request that brought it (W3C Trace Context). Null: no traces were made then.
    traceparent: Mapped[str | None] = mapped_column(String(55))
    #: Compressed by LZ4 if PostgreSQL has it (migration 0003).
    raw: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    content_id: Mapped[UUID | None] = mapped_column(ForeignKey("contents.id"))
    #: What a composed message does not share with others: see ``contents.Personal``.
    personal: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)


class MessageContent(Owned, Base):
    """What composed messages are made of. Messages with equal contents share one row.

    The id is a digest of the tenant and the content (``contents.py``), so a row never changes.
    """

    __tablename__ = "contents"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: Compressed JSON.
    made_of: Mapped[bytes] = mapped_column(LargeBinary)


class ContentFile(Owned, Base):
    """A file of a content. The row keeps its blob from being deleted."""

    __tablename__ = "content_files"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sha256"], ["blobs.tenant_id", "blobs.sha256"]),
        Index("ix_content_files_tenant_id_sha256", "tenant_id", "sha256"),
    )

    content_id: Mapped[UUID] = mapped_column(ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True)
    #: Its place among the content's files, from 0.
    place: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    #: Of the file's bytes, in hexadecimal digits. The content itself tells the file's name and type.
    sha256: Mapped[str] = mapped_column(String(64))


class MessageTag(Owned, Base):
    """A tag of a message, also as a row, so that lists by tag can use an index."""

    __tablename__ = "message_tags"
    __table_args__ = (Index("ix_message_tags_tenant_id_tag_message_id", "tenant_id", "tag", "message_id"),)

    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(Text, primary_key=True)


class MessageCount(Owned, Base):
    """How many messages of a status a tenant has: the sum of ``n`` in its rows. Triggers write them."""

    __tablename__ = "message_counts"
    __table_args__ = (Index("ix_message_counts_tenant_id_status", "tenant_id", "status"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    n: Mapped[int] = mapped_column(BigInteger)


class Delivery(LeaseColumns, Owned, Base):
    """One recipient of a message: the unit of status, claim and retry.

    A claim is a lease on a delivery (``database/leasing.py``). A pending delivery that is never due
    (``next_attempt_at`` is null) is held: its tenant is suspended.

    Three columns count different things. ``attempt`` is the number of claims, and the fencing token of
    the latest. ``tries`` is the place in RETRY_DELAYS: it also counts deferrals without asking a
    server, and begins anew when a person retries. ``attempts`` is how often a server was asked, ever
    (null: as often as ``tries`` says).
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        # One index for each set of deliveries that ticks, sweeps and claims look for: never hinted; the
        # scheduled ones of these; hinted by a delay queue only; hinted and due; claimed; to be sent alone; held.
        # Each holds only the few rows of its set, so no such statement slows down as history grows.
        _partial("ix_deliveries_unhinted", "lane", "next_attempt_at", where=f"{_IDLE} AND published_at IS NULL"),
        Index(
            "ix_deliveries_scheduled",
            "lane",
            "next_attempt_at",
            postgresql_where=text(f"{_IDLE} AND published_at IS NULL AND scheduled"),
            sqlite_where=text(f"{_IDLE} AND published_at IS NULL AND scheduled = 1"),
        ),
        _partial(
            "ix_deliveries_delayed", "lane", "next_attempt_at", where=f"{_IDLE} AND published_at < next_attempt_at"
        ),
        _partial("ix_deliveries_hinted", "lane", "published_at", where=f"{_IDLE} AND published_at >= next_attempt_at"),
        _partial("ix_deliveries_leased", "lease_owner", "lease_until", where="lease_owner IS NOT NULL"),
        _partial("ix_deliveries_alone", "next_attempt_at", where=f"{_IDLE} AND crashes >= 2"),
        _partial("ix_deliveries_held", "tenant_id", where=f"{_IDLE} AND next_attempt_at IS NULL"),
        _partial(
            "ix_deliveries_tenant_id_reason_message_id", "tenant_id", "reason", "message_id", where="reason IS NOT NULL"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    address: Mapped[str] = mapped_column(Text)
    #: ``to``, ``cc`` or ``bcc``; of one that an inbound route made, a ``RoutedKind`` (``inbound_routes/effect.py``).
    kind: Mapped[str] = mapped_column(String(3))
    #: The local recipient whose inbound route made it. Null: no route did.
    received_for: Mapped[str | None] = mapped_column(Text)
    lane: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    tries: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int | None]
    #: Claims that ended with their worker's death.
    crashes: Mapped[int] = mapped_column(default=0)
    #: Attempts whose outcome is unknown.
    unknowns: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    #: Whether a client named the time of its first attempt. A worker hints it at that time, and nobody before.
    scheduled: Mapped[bool] = mapped_column(server_default=false())
    #: When its hint was last given to the queue. Null: never, or not since it last became due.
    published_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    reply_code: Mapped[int | None] = mapped_column(SmallInteger)
    reply: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime())

    @property
    def in_hand(self) -> bool:
        """Whether a worker has claimed it, so that it may be sent at this moment."""
        return self.lease_owner is not None

    @property
    def attempts_made(self) -> int:
        """How often a server was asked to take the message for this recipient."""
        return self.tries if self.attempts is None else self.attempts


# For statements on hot paths: with the mapped classes an insert or an update costs half as much again.
MESSAGES, DELIVERIES, TAGS, CONTENTS, CONTENT_FILES = (
    cast(Table, model.__table__) for model in (Message, Delivery, MessageTag, MessageContent, ContentFile)
)

# For lists by recipient, in any case, and by domain.
Index(
    "ix_deliveries_tenant_id_domain_address_message_id",
    DELIVERIES.c.tenant_id,
    domain_of(DELIVERIES.c.address),
    ascii_lower(DELIVERIES.c.address),
    DELIVERIES.c.message_id,
)
# For lists by sender.
Index("ix_messages_tenant_id_from_id", MESSAGES.c.tenant_id, ascii_lower(mailbox_in(MESSAGES.c.sender)), MESSAGES.c.id)
