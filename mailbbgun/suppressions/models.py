"""The table of suppressions."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import Index, Table, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime


class Suppression(Owned, Base):
    """An address or a domain that a tenant's mail must not go to."""

    __tablename__ = "suppressions"
    __table_args__ = (
        Index("ix_suppressions_tenant_id_target_test", "tenant_id", "target", "test", unique=True),
        Index("ix_suppressions_tenant_id_test_id", "tenant_id", "test", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: Whether it concerns test messages, and only these.
    test: Mapped[bool] = mapped_column(server_default=false())
    #: The address or domain, as ``targets.py`` makes it. Only an address has an @.
    target: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: From when on it concerns nothing. Null: never.
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime(), index=True)

    @property
    def address(self) -> str | None:
        """The address; None if it is a domain."""
        return self.target if "@" in self.target else None

    @property
    def domain(self) -> str | None:
        """The domain; None if it is an address."""
        return None if "@" in self.target else self.target


SUPPRESSIONS = cast(Table, Suppression.__table__)
