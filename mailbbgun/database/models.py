"""The table of idempotency keys, which is of all rooms that create something."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, UTCDateTime


class IdempotencyKey(Base):
    """What was answered to the first request with a key. No foreign key: what was created may be gone before the key is."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(
        String(255), primary_key=True
    )  # of tenants but ``default``, a hash of tenant and key
    fingerprint: Mapped[str] = mapped_column(String(64))  # SHA-256 of the body, canonical
    created_id: Mapped[UUID] = mapped_column("message_id")  # as it was called when only messages were created
    response: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime(), index=True)
