"""The tables of tracking: how often a message was opened and clicked, and the addresses of who did."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, Owned, UTCDateTime


class TrackedCount(Owned, Base):
    """How many events of a kind by one sort of visitor a message has."""

    __tablename__ = "tracked_counts"

    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)  # opened or clicked
    visitor: Mapped[str] = mapped_column(String(8), primary_key=True)  # person, proxy or robot
    n: Mapped[int]


class TrackedAddress(Owned, Base):
    """The IP address behind an event, which has the same id. Events are never changed, so none has it itself."""

    __tablename__ = "tracked_addresses"
    __table_args__ = (
        Index("ix_tracked_addresses_message_id", "message_id"),
        Index("ix_tracked_addresses_at", "at"),
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    kind: Mapped[str] = mapped_column(String(8))
    address: Mapped[str] = mapped_column(Text)


COUNTS, ADDRESSES = (cast(Table, model.__table__) for model in (TrackedCount, TrackedAddress))
