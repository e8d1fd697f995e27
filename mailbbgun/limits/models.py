"""The tables of what SMTP accounts have sent, for their limits, and of what API keys have just sent."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Double, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, UTCDateTime


class PermitCount(Base):
    """How far the sending limits of one account are used up.

    The row is made at the account's first request for permits, so only accounts with limits have
    one. It has no foreign key: a request for many accounts must not fail because one was deleted
    meanwhile.
    """

    __tablename__ = "smtp_pace"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: When all granted permits are paid off (see permits.py): seconds since 1970 by the database's
    #: clock.
    free_at: Mapped[float] = mapped_column(Double)
    #: The day of ``used``: whole days since 1970, UTC.
    day: Mapped[int] = mapped_column(Integer)
    #: How many permits were granted on that day.
    used: Mapped[int] = mapped_column(Integer)
    #: How many the last request was granted. Stored because an UPDATE of SQLite returns only
    #: columns of the row.
    granted: Mapped[int] = mapped_column(Integer)


class RecentMail(Base):
    """What a key with ``duplicate_seconds`` has sent in that time.

    There is no foreign key to the message: it may be deleted before the row is.
    """

    __tablename__ = "recent_mail"

    #: ``duplicates.Guard.digest``.
    guard: Mapped[str] = mapped_column(String(64), primary_key=True)
    message_id: Mapped[UUID]
    #: The answer to the message's request.
    response: Mapped[dict[str, Any]] = mapped_column(JSON)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime(), index=True)
