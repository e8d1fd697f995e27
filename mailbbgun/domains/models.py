"""The tables of sending domains and of their DKIM keys."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted

#: The states of a key: not used yet; signs; signs only messages from the time before it was replaced.
PENDING, ACTIVE, RETIRED = STATES = ("pending", "active", "retired")

_UNUSED = text("active_from IS NULL")

#: The most that is done about mail from outside that fails its verification (``verification/policy.py``).
Policy = Literal["none", "quarantine", "reject"]
POLICIES: tuple[Policy, ...] = ("none", "quarantine", "reject")


class SendingDomain(Owned, Base):
    """A domain that a tenant sends from. The name is in A-labels and lower case."""

    __tablename__ = "domains"
    __table_args__ = (
        Index("uq_domains_tenant_id_name", "tenant_id", "name", unique=True),
        # A domain is local to one tenant.
        Index("uq_domains_local", "name", unique=True, postgresql_where=text("local"), sqlite_where=text("local = 1")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(Text)
    #: Whether its mail is delivered here, to the tenant's mailboxes.
    local: Mapped[bool] = mapped_column(server_default=false())
    #: Whether that holds for mail of other tenants, too: an administrator made it local.
    local_for_all: Mapped[bool] = mapped_column(server_default=false())
    #: One of :data:`POLICIES`.
    policy: Mapped[str] = mapped_column(String(16), server_default="none")
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    checked_at: Mapped[datetime | None] = mapped_column(UTCDateTime())  # when the DNS was last asked about it
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # what it said then (``dns/findings.py``)


class DKIMKey(Owned, Base):
    """A DKIM key pair of a domain.

    It signs messages that were accepted from ``active_from`` (null: not yet) until ``retired_at``.
    """

    __tablename__ = "dkim_keys"
    __table_args__ = (
        Index("uq_dkim_keys_domain_id_selector", "domain_id", "selector", unique=True),
        Index("ix_dkim_keys_pending", "domain_id", postgresql_where=_UNUSED, sqlite_where=_UNUSED),
        Index("ix_dkim_keys_retired_at", "retired_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    domain_id: Mapped[UUID] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    selector: Mapped[str] = mapped_column(String(63))  # RFC 6376 §3.1
    algorithm: Mapped[str] = mapped_column(String(16))  # rsa-sha256 or ed25519-sha256
    private_key: Mapped[str] = mapped_column(Text, info=encrypted(named_by="selector"))
    public_key: Mapped[str] = mapped_column(Text)  # p= of its record
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    active_from: Mapped[datetime | None] = mapped_column(UTCDateTime())
    retired_at: Mapped[datetime | None] = mapped_column(UTCDateTime())

    @property
    def state(self) -> str:
        """One of :data:`STATES`."""
        if self.active_from is None:
            return PENDING
        return ACTIVE if self.retired_at is None else RETIRED
