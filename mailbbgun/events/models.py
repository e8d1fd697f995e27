"""The table of events."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String, Table
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime


class Event(Owned, Base):
    """An event of a message, or of one delivery of it. Never changed."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_message_id_id", "message_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    delivery_id: Mapped[UUID | None]
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


EVENTS = cast(Table, Event.__table__)
