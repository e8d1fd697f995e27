"""The table of batches."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import Index, Table, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime


class Batch(Owned, Base):
    """A batch. Its messages have its id as ``batch_id``, and ids from ``first_id`` to ``last_id``.

    So they are found by the index on the ids of a tenant's messages. An index on ``batch_id`` would
    cost each message a tenth more.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_tenant_id_id", "tenant_id", "id"),
        Index("ix_batches_tenant_id_source", "tenant_id", "source", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: The API key that sent it. Null: none did.
    key_id: Mapped[UUID | None]
    test: Mapped[bool] = mapped_column(server_default=false())
    #: The subject of its content, before variables are filled in.
    subject: Mapped[str] = mapped_column(Text)
    #: How many messages were accepted, and how many items were refused.
    messages: Mapped[int]
    refused: Mapped[int]
    first_id: Mapped[UUID]
    last_id: Mapped[UUID]
    #: What the batch was made of, such as rows of a file: no two batches of a tenant have the same. Null: a request.
    source: Mapped[str | None] = mapped_column(Text)
    cancelled_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


BATCHES = cast(Table, Batch.__table__)
