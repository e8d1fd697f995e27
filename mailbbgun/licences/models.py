"""The tables of licences: signing keys of the service, licences of tenants, and the seats in use."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted


class LicenceKey(Base):
    """A pair of keys of the service. The private half is deleted when the next key takes over."""

    __tablename__ = "licence_keys"
    __table_args__ = (Index("uq_licence_keys_kid", "kid", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kid: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[str] = mapped_column(String(64))  # "x" of RFC 8037 §2
    private_key: Mapped[str | None] = mapped_column(Text, info=encrypted(named_by="kid"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    retired_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


class Licence(Owned, Base):
    """A licence as it was issued. A renewal is a row of its own."""

    __tablename__ = "licences"
    __table_args__ = (
        Index("ix_licences_tenant_id_id", "tenant_id", "id"),
        Index("ix_licences_root_id", "root_id"),
        Index("ix_licences_kid_expires_at", "kid", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: The first licence of a row of renewals, which share their seats. Its own id if it is the first.
    root_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
    seats: Mapped[int]
    features: Mapped[list[str]] = mapped_column(JSON)
    #: The tenant's own notes, which are not in the token. ``metadata`` is a name of SQLAlchemy's.
    notes: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    not_before: Mapped[datetime] = mapped_column(UTCDateTime())
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    kid: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(Text, info=encrypted(named_by="subject"))
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    revoked_reason: Mapped[str | None] = mapped_column(Text)
    superseded_by: Mapped[UUID | None]
    #: From then on only the renewal is in force. It may be in the future.
    superseded_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())


class Activation(Owned, Base):
    """A machine that holds a seat."""

    __tablename__ = "licence_activations"
    __table_args__ = (Index("uq_licence_activations_root_id_fingerprint", "root_id", "fingerprint", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    root_id: Mapped[UUID] = mapped_column(ForeignKey("licences.id", ondelete="CASCADE"))
    fingerprint: Mapped[str] = mapped_column(String(128))
    name: Mapped[str | None] = mapped_column(Text)
    activated_at: Mapped[datetime] = mapped_column(UTCDateTime())
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: The end of its lease's offline grace. After that the seat is free.
    held_until: Mapped[datetime] = mapped_column(UTCDateTime())
