"""The tables of tenants, API keys, daily quotas, storage, the service's own secrets and the audit."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Table, Text, false, func, select
from sqlalchemy.orm import Mapped, column_property, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted

ACTIVE, SUSPENDED = STATUSES = ("active", "suspended")


class StorageUsage(Base):
    """How many bytes of files a tenant has: the sum of the sizes of its blobs.

    The transactions that add and delete blobs change it, last of all, so that uploads wait for each other no
    longer than a commit takes. A tenant without a row never had a file. No foreign key, as in :class:`Usage`.
    """

    __tablename__ = "tenant_storage"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(BigInteger)


class Tenant(Base):
    """A customer of the service, who owns all other data.

    Never deleted, since mail and events refer to it.
    """

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    max_requests_per_minute: Mapped[int | None]  # null: no limit
    max_messages_per_day: Mapped[int | None]  # null: no limit
    max_storage: Mapped[int | None] = mapped_column(BigInteger)  # bytes of its files; null: no limit
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: Whether it has had suppressions. If not, nobody need look for them.
    has_suppressions: Mapped[bool] = mapped_column(server_default=false())
    #: Bytes of its files now. Deferred: the keyring, which reads tenants often, does not need it.
    storage_used: Mapped[int] = column_property(
        select(func.coalesce(func.sum(StorageUsage.used), 0)).where(StorageUsage.tenant_id == id).scalar_subquery(),
        deferred=True,
    )


class ApiKey(Base):
    """An API key. Only a keyed hash of its secret is stored."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)  # identifies the key; public
    hash: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(8))  # live, test or team
    scopes: Mapped[list[str]] = mapped_column(JSON)
    senders: Mapped[list[str]] = mapped_column(JSON)  # addresses and domains that From may have; empty: any
    networks: Mapped[list[str]] = mapped_column(JSON)  # CIDR; requests must come from one of them; empty: from anywhere
    guests: Mapped[list[str]] = mapped_column(JSON)  # addresses and domains that a team key may send to
    max_requests_per_minute: Mapped[int | None]  # null: no limit of its own
    duplicate_seconds: Mapped[int | None]  # null: duplicates are sent
    duplicate_policy: Mapped[str] = mapped_column(String(8), server_default="answer")
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    # When the key was rotated; it ends soon. Deferred: the keyring, which reads keys often, does
    # not need it.
    rotated_at: Mapped[datetime | None] = mapped_column(UTCDateTime(), deferred=True)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


class KeyChange(Base):
    """Counts the changes of keys, tenants and SMTP accounts; the count is the sum of all rows.

    Triggers add the rows, so that every change counts, whoever makes it (migration 0009).
    """

    __tablename__ = "key_changes"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)


class Usage(Base):
    """How much of its daily quota a tenant has used.

    The first message that counts makes the row; tenants without a quota have no row. Test messages
    have a row of their own, whose ``tenant_id`` is ``caller.counts_as``. There is no foreign key
    for that reason, and because each insert would lock the tenant's row.
    """

    __tablename__ = "tenant_usage"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[int]  # the day that ``used`` counts: whole days since 1970, UTC
    used: Mapped[int]  # messages accepted on that day
    granted: Mapped[int]  # messages granted to the last request; kept for RETURNING, which shows only new values
    per_day: Mapped[int]  # the quota at the last request


class Secret(Base):
    """An encrypted secret of the service itself, such as the pepper that keys are hashed with."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(Text, info=encrypted(named_by="name"))


class AuditEntry(Owned, Base):
    """An act that the tenant must be able to see later, such as reading a password.

    Never changed.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    key_id: Mapped[UUID | None]  # null: a request without a key, or the command line
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    action: Mapped[str] = mapped_column(String(64))  # credentials.revealed
    address: Mapped[str | None] = mapped_column(String(45))  # the client's IP address
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


TENANTS = cast(Table, Tenant.__table__)
API_KEYS = cast(Table, ApiKey.__table__)
KEY_CHANGES = cast(Table, KeyChange.__table__)
USAGE = cast(Table, Usage.__table__)
STORAGE = cast(Table, StorageUsage.__table__)
