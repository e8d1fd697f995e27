"""The table of shared files."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKeyConstraint, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime

#: Names sort by code points everywhere, so that those with one prefix are neighbours in the index.
NAME = Text().with_variant(Text(collation="C"), "postgresql")


class NamedFile(Owned, Base):
    """A content under a name. The names of test keys' files are apart from those of others."""

    __tablename__ = "files"
    __table_args__ = (
        # While the row is there, its blob is not deleted.
        ForeignKeyConstraint(["tenant_id", "sha256"], ["blobs.tenant_id", "blobs.sha256"]),
        Index("ix_files_tenant_id_id", "tenant_id", "id"),
        Index("uq_files_tenant_id_test_name", "tenant_id", "test", "name", unique=True),
        Index("ix_files_tenant_id_sha256", "tenant_id", "sha256"),
        Index("ix_files_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: Whether a test key made it. Test keys see only such rows.
    test: Mapped[bool] = mapped_column(server_default=false())
    #: Parts with slashes between them.
    name: Mapped[str] = mapped_column(NAME)
    sha256: Mapped[str] = mapped_column(String(64))
    md5: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    content_type: Mapped[str] = mapped_column(String(255))
    #: The client's own: a flat object.
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: From then on it is gone for clients. Null: it stays until it is deleted.
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime())

    @property
    def filename(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]
