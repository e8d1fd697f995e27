"""The tables of SMTP accounts and of their open circuits."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, Double, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted
from mailbbgun.limits.permits import SendingLimits


class SMTPAccount(Owned, Base):
    """A server that a tenant's mail leaves through, with its settings."""

    __tablename__ = "smtp_accounts"
    __table_args__ = (Index("uq_smtp_accounts_tenant_id_setting_name", "tenant_id", "setting_name", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    setting_name: Mapped[str] = mapped_column(String(64))
    preset: Mapped[str | None] = mapped_column(String(16))
    smtp_host: Mapped[str] = mapped_column(Text)
    smtp_port: Mapped[int]
    smtp_username: Mapped[str | None] = mapped_column(Text)
    smtp_password: Mapped[str | None] = mapped_column(Text, info=encrypted(named_by="setting_name"))
    security_protocol: Mapped[str] = mapped_column(String(8))  # NONE, STARTTLS or TLS
    ca_certificate: Mapped[str | None] = mapped_column(Text)  # PEM; authorities of its certificate; null: the system's
    from_email: Mapped[str | None] = mapped_column(Text)  # takes mail from this address or domain; null: from any
    from_name: Mapped[str | None] = mapped_column(Text)
    envelope_from: Mapped[str | None] = mapped_column(Text)  # MAIL FROM (RFC 5321 §4.1.1.2); null: the message's From
    is_default: Mapped[bool]  # messages that name no From get the one of this account
    priority: Mapped[int]  # the lowest is tried first
    weight: Mapped[int]  # share among accounts of one priority
    max_connections: Mapped[int]
    max_per_second: Mapped[float | None] = mapped_column(Double)
    max_per_minute: Mapped[int | None]
    max_per_day: Mapped[int | None]
    max_recipients_per_message: Mapped[int | None]  # in one transaction; null: no limit
    send_interval: Mapped[float | None] = mapped_column(Double)  # least seconds between two mails
    recipient_domains: Mapped[list[str]] = mapped_column(JSON)  # example.com, *.example.com; empty: all
    enabled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())

    @property
    def has_password(self) -> bool:
        """Whether the account has a password. Nothing else of it may be shown."""
        return self.smtp_password is not None

    @property
    def limits(self) -> SendingLimits:
        """What its provider allows. Raises ``ValueError`` for a limit that is not positive."""
        return SendingLimits(
            max_per_second=self.max_per_second,
            max_per_minute=self.max_per_minute,
            max_per_day=self.max_per_day,
            send_interval=self.send_interval,
        )


class SMTPCircuit(Base):
    """An open circuit: this worker process sends nothing through this account for now.

    The worker deletes the row when the circuit closes. Rows of dead workers are ignored.
    """

    __tablename__ = "smtp_circuits"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    worker_id: Mapped[UUID] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime] = mapped_column(UTCDateTime())
    failures: Mapped[int]
    reply: Mapped[str] = mapped_column(Text)  # what the server, or the connection, said last
