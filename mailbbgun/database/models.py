"""The table of idempotency keys, which all rooms use that create something."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, UTCDateTime


class IdempotencyKey(Base):
    """The answer to the first request with a key.

    There is no foreign key to what was created: it may be deleted before the key is.
    """

    __tablename__ = "idempotency_keys"

    #: As ``idempotency.stored`` returns it: for most tenants a hash of tenant and key.
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: The SHA-256 of the body as canonical JSON.
    fingerprint: Mapped[str] = mapped_column(String(64))
    #: The column's name is from the time when only messages were created.
    created_id: Mapped[UUID] = mapped_column("message_id")
    response: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime(), index=True)
