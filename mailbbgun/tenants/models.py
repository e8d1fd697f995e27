"""Tables of tenants, their API keys, and the service's own secrets."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted

ACTIVE, SUSPENDED = STATUSES = ("active", "suspended")


class Tenant(Base):
    """A customer of the service; owns everything. Never deleted: mail and events name it."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    max_requests_per_minute: Mapped[int | None]  # null: no limit
    max_messages_per_day: Mapped[int | None]  # null: no limit
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())


class ApiKey(Base):
    """A key as we know it again: of the secret only a keyed hash is here."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)  # tells keys apart, and is no secret
    hash: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(8))  # live, test or team
    scopes: Mapped[list[str]] = mapped_column(JSON)
    senders: Mapped[list[str]] = mapped_column(
        JSON
    )  # From may be one of these addresses, or of these domains; empty: anything
    networks: Mapped[list[str]] = mapped_column(
        JSON
    )  # requests must come from one of these (CIDR); empty: from anywhere
    guests: Mapped[list[str]] = mapped_column(JSON)  # of a team key: who may get mail, addresses and domains
    max_requests_per_minute: Mapped[int | None]  # null: no limit of its own
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    # Another one took its place, and it ends soon. Not among what is read with each look at keys in use.
    rotated_at: Mapped[datetime | None] = mapped_column(UTCDateTime(), deferred=True)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


class KeyChange(Base):
    """How often keys, tenants or SMTP accounts have changed: the sum of its rows. Triggers write them, whoever changes what (migration 0009)."""

    __tablename__ = "key_changes"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)


class Usage(Base):
    """How far a tenant's daily quota is used up. Made with the first message that counts; tenants without a quota have none.

    Test messages have a row of their own: its ``tenant_id`` is ``caller.counts_as``. No foreign key, for that, and because each
    insert would lock the tenant's row.
    """

    __tablename__ = "tenant_usage"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[int]  # that ``used`` is of: whole days since 1970, UTC
    used: Mapped[int]  # messages accepted on that day
    granted: Mapped[int]  # of those that were asked for last; RETURNING tells nothing but a row's new values
    per_day: Mapped[int]  # the quota when it was last asked for


class Secret(Base):
    """A secret of the service's own, encrypted, such as the pepper of the keys' hashes."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(Text, info=encrypted(named_by="name"))


class AuditEntry(Owned, Base):
    """Somebody read or did what must not go unseen. Never changed."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    key_id: Mapped[UUID | None]  # null: by nobody's key, or on the command line
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    action: Mapped[str] = mapped_column(String(64))  # credentials.revealed
    address: Mapped[str | None] = mapped_column(String(45))  # the IP address it was asked from
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


TENANTS = cast(Table, Tenant.__table__)
API_KEYS = cast(Table, ApiKey.__table__)
KEY_CHANGES = cast(Table, KeyChange.__table__)
USAGE = cast(Table, Usage.__table__)
