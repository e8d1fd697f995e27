"""The tables of webhooks."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, String, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted
from mailbbgun.database.leasing import LeaseColumns


class WebhookEndpoint(LeaseColumns, Owned, Base):
    """A URL that gets events, and its place in the tenant's log: all events up to it are done.

    The worker process that has its lease serves it.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        Index("ix_webhook_endpoints_tenant_id_id", "tenant_id", "id"),
        Index("ix_webhook_endpoints_lease_owner", "lease_owner"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    kinds: Mapped[list[str]] = mapped_column(JSON)  # empty: all
    test: Mapped[bool]  # it gets events of test messages, and of no others
    enabled: Mapped[bool]
    secret: Mapped[str] = mapped_column(Text, info=encrypted(named_by="url"))
    #: The secret before the last rotation. Until ``previous_until`` requests are signed by both.
    previous_secret: Mapped[str | None] = mapped_column(Text, info=encrypted(named_by="url"))
    previous_until: Mapped[datetime | None] = mapped_column(UTCDateTime())
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())
    position: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[UUID]
    failing_since: Mapped[datetime | None] = mapped_column(UTCDateTime())  # nothing was acknowledged since then
    pauses: Mapped[int]  # in a row, without an acknowledged event between them
    paused_until: Mapped[datetime | None] = mapped_column(UTCDateTime())
    disabled_reason: Mapped[str | None] = mapped_column(Text)  # why a worker disabled it


class WebhookRetry(Owned, Base):
    """An event that failed by itself, while others got through, and is sent again alone."""

    __tablename__ = "webhook_retries"
    __table_args__ = (Index("ix_webhook_retries_endpoint_id_next_at", "endpoint_id", "next_at"),)

    #: Of endpoint and event: :func:`mailbbgun.webhooks.sending.request_id`.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[UUID]
    tries: Mapped[int]  # after the first one
    next_at: Mapped[datetime] = mapped_column(UTCDateTime())


class WebhookAttempt(Owned, Base):
    """A request that failed, or that a person asked for. Never changed; kept for WEBHOOK_LOG_DAYS."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (
        Index("ix_webhook_attempts_endpoint_id_id", "endpoint_id", "id"),
        Index("ix_webhook_attempts_at", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(BigInteger)  # with the event's id its place in the log; 0: it has none
    event_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(String(32))
    cause: Mapped[str] = mapped_column(String(16))  # event, retry, replay, redelivery, test
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    seconds: Mapped[float] = mapped_column(Float)
    request_headers: Mapped[dict[str, str]] = mapped_column(JSON)
    status: Mapped[int | None]  # null: there was no answer
    answer_headers: Mapped[dict[str, str]] = mapped_column(JSON)
    answer: Mapped[str] = mapped_column(Text)  # its beginning
    error: Mapped[str | None] = mapped_column(Text)  # why it does not count as acknowledged


class WebhookReplay(Owned, Base):
    """A second place in the log: events of a time are sent to an endpoint once more."""

    __tablename__ = "webhook_replays"
    __table_args__ = (Index("ix_webhook_replays_endpoint_id_id", "endpoint_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[UUID]
    until_position: Mapped[int] = mapped_column(BigInteger)
    until_event_id: Mapped[UUID]
    from_at: Mapped[datetime] = mapped_column(UTCDateTime())
    to_at: Mapped[datetime] = mapped_column(UTCDateTime())
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime())


_MODELS: Any = (WebhookEndpoint, WebhookRetry, WebhookAttempt, WebhookReplay)
ENDPOINTS, RETRIES, ATTEMPTS, REPLAYS = (cast(Table, model.__table__) for model in _MODELS)
