"""Tables of blobs and attachments."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, String, Table, Text, Uuid, false, text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime

#: States of ``Blob.scan``; the others are ``infected`` and ``unscannable``.
UNSCANNED, CLEAN = "unscanned", "clean"


class Blob(Owned, Base):
    """A content of a tenant, known by its SHA-256. Test and live data of a tenant share it.

    A table with a foreign key to this one keeps its blobs from being deleted (``expire.py``).
    """

    __tablename__ = "blobs"
    __table_args__ = (
        Index("ix_blobs_tenant_id_md5", "tenant_id", "md5"),
        Index("uq_blobs_object_id", "object_id", unique=True),
        Index("ix_blobs_kept_until", "kept_until"),
        Index("ix_blobs_scan", "scan", "created_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    #: In hex, as ``md5``.
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    md5: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    #: Names the file in the store: see :func:`key_of`. No two uploads have the same, so a deletion can
    #: never meet a later upload of the same content.
    object_id: Mapped[UUID] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: It is not deleted before. Then it is, unless a row refers to it.
    kept_until: Mapped[datetime] = mapped_column(UTCDateTime())
    #: What the virus scanner said: ``unscanned``, ``clean``, ``infected`` or ``unscannable``.
    scan: Mapped[str] = mapped_column(String(16), server_default="unscanned")
    #: The scanner's words, such as the name of what it found.
    scan_result: Mapped[str | None] = mapped_column(Text)
    scanned_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


class Attachment(Owned, Base):
    """A name for a content.

    ``awaited`` names a digest whose file a client will upload straight to the store. It is null once
    the file has come and was checked. Until then ``sha256`` and ``md5`` are null.
    """

    __tablename__ = "attachments"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sha256"], ["blobs.tenant_id", "blobs.sha256"]),
        Index("ix_attachments_tenant_id_id", "tenant_id", "id"),
        Index("ix_attachments_tenant_id_sha256", "tenant_id", "sha256"),
        Index("ix_attachments_tenant_id_md5", "tenant_id", "md5"),
        Index(
            "ix_attachments_tenant_id_awaited",
            "tenant_id",
            "awaited",
            postgresql_where=text("awaited IS NOT NULL"),
            sqlite_where=text("awaited IS NOT NULL"),
        ),
        Index("ix_attachments_last_used_at", "last_used_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: Whether a test key made it. Test keys see only such rows.
    test: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    last_used_at: Mapped[datetime] = mapped_column(UTCDateTime())
    sha256: Mapped[str | None] = mapped_column(String(64))
    md5: Mapped[str | None] = mapped_column(String(32))
    filename: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    #: ``sha256-`` or ``md5-`` and the digest in hex.
    awaited: Mapped[str | None] = mapped_column(String(72))

    @property
    def state(self) -> str:
        """``stored``, or ``awaited`` until its file has come and was checked."""
        return "stored" if self.awaited is None else "awaited"


BLOBS, ATTACHMENTS = (cast(Table, model.__table__) for model in (Blob, Attachment))


def key_of(tenant_id: UUID, object_id: UUID) -> str:
    """Return the key of a blob's file in the store."""
    # The last two digits are random, so that no folder gets too many files.
    return f"{tenant_id.hex}/{object_id.hex[-2:]}/{object_id.hex}"
