"""The table of inbound routes."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, Index, Integer, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted


class InboundRoute(Owned, Base):
    """Which mail to a tenant's local domains it is about, and what is done with that."""

    __tablename__ = "inbound_routes"
    __table_args__ = (Index("ix_inbound_routes_tenant_id_priority_id", "tenant_id", "priority", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(Text)
    #: The lowest comes first; of equal ones the oldest.
    priority: Mapped[int] = mapped_column(Integer)
    #: As ``schemas.InboundMatch`` takes it; empty: all mail.
    matching: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: As ``schemas.InboundAction`` takes each, one of each kind at most.
    actions: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    stop: Mapped[bool]
    enabled: Mapped[bool]
    #: Signs the requests of ``post``.
    secret: Mapped[str] = mapped_column(Text, info=encrypted(named_by="name"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())


INBOUND_ROUTES = cast(Table, InboundRoute.__table__)
