"""The table of the embedded queue."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, UTCDateTime


class QueuedHint(Base):
    """One hint, which may be taken once ``visible_at`` has passed; taking it moves that time on."""

    __tablename__ = "queue_hints"
    __table_args__ = (Index("ix_queue_hints_lane_visible_at", "lane", "visible_at"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    lane: Mapped[str] = mapped_column(String(8))
    message_id: Mapped[UUID]
    visible_at: Mapped[datetime] = mapped_column(UTCDateTime())
