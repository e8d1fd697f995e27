"""The table of idempotency keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.base.db import Base, UTCDateTime


class IdempotencyKey(Base):
    """What was answered to the first request with a key. No foreign key: the message may be gone before the key is."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)  # of tenants but ``default``, a hash of tenant and key
    fingerprint: Mapped[str] = mapped_column(String(64))  # SHA-256 of the body, canonical
    message_id: Mapped[UUID]
    response: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime(), index=True)
