"""The tables of alerts: rules, incidents, notices, and the counts and reports that figures come from."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Table, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime

_OPEN, _UNSENT = text("resolved_at IS NULL"), text("done_at IS NULL")


class Alert(Owned, Base):
    """A rule of a tenant: which figure is watched, and who is told. Durations are seconds."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index("uq_alerts_tenant_id_name", "tenant_id", "name", unique=True),
        Index("ix_alerts_checked_at", "checked_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    #: Whether it is about the data of all tenants. Only keys with the scope ``admin`` make and change such rules.
    all_tenants: Mapped[bool]
    threshold: Mapped[float] = mapped_column(Double)
    #: Below this the figure is fine again. Between the two nothing changes.
    resolve_threshold: Mapped[float] = mapped_column(Double)
    for_seconds: Mapped[int]
    resolve_seconds: Mapped[int]
    window_seconds: Mapped[int]
    #: Fewer mails than this say nothing.
    least: Mapped[int]
    #: For so long a notice waits for other subjects of the rule.
    group_seconds: Mapped[int]
    emails: Mapped[list[str]] = mapped_column(JSON)
    slack_channel: Mapped[str | None] = mapped_column(Text)
    webhook_url: Mapped[str | None] = mapped_column(Text)
    enabled: Mapped[bool]
    silenced_until: Mapped[datetime | None] = mapped_column(UTCDateTime())
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())
    #: When a worker began to look at it last.
    checked_at: Mapped[datetime] = mapped_column(UTCDateTime())


class Incident(Owned, Base):
    """One time that a rule's figure went beyond its threshold, for one subject, such as one SMTP account.

    While it is only pending there is no event and no notice, and it is deleted if the figure goes back.
    """

    __tablename__ = "alert_incidents"
    __table_args__ = (
        Index("ix_alert_incidents_tenant_id_id", "tenant_id", "id"),
        Index("ix_alert_incidents_alert_id_id", "alert_id", "id"),
        Index(
            "uq_alert_incidents_open",
            "alert_id",
            "subject",
            unique=True,
            postgresql_where=_OPEN,
            sqlite_where=_OPEN,
        ),
        Index("ix_alert_incidents_resolved_at", "resolved_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"))
    #: What it is about, such as the name of an account; empty where a rule has only one figure.
    subject: Mapped[str] = mapped_column(Text)
    #: See ``state.State``.
    state: Mapped[str] = mapped_column(String(16))
    #: For how many seconds the figure has been seen beyond (pending), or back (resolving).
    held: Mapped[float] = mapped_column(Double)
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime())
    value: Mapped[float | None] = mapped_column(Double)
    #: The largest figure.
    peak: Mapped[float] = mapped_column(Double)
    #: What a person would ask next, such as the server's last reply.
    detail: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(UTCDateTime())
    fired_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    resolved_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    #: The notice that told of it; the notice that it has ended answers that one. Null: nobody was told.
    notice_id: Mapped[UUID | None]


class Notice(Owned, Base):
    """Something to tell on one channel. It is sent after the commit of the change it tells of."""

    __tablename__ = "alert_notices"
    __table_args__ = (
        Index("ix_alert_notices_alert_id", "alert_id"),
        Index("ix_alert_notices_unsent", "due_at", postgresql_where=_UNSENT, sqlite_where=_UNSENT),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"))
    #: The notices of one change have one, on all channels: the id that is in the Message-ID of its mail.
    change_id: Mapped[UUID]
    #: ``fired``, ``resolved`` or ``test``.
    about: Mapped[str] = mapped_column(String(16))
    #: ``mail``, ``slack`` or ``webhook``.
    channel: Mapped[str] = mapped_column(String(16))
    #: Changes of earlier notices that this one answers.
    answers: Mapped[list[str]] = mapped_column(JSON)
    #: What to tell of each subject.
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    due_at: Mapped[datetime] = mapped_column(UTCDateTime())
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    done_at: Mapped[datetime | None] = mapped_column(UTCDateTime())
    #: Why it was not sent, or not yet.
    error: Mapped[str | None] = mapped_column(Text)
    #: The message that was made of it.
    message_id: Mapped[UUID | None]


class EventCount(Owned, Base):
    """How many events of a kind a tenant had in a minute, or in an hour. Test messages do not count."""

    __tablename__ = "alert_counts"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: 60 or 3600.
    seconds: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: Its beginning, in Unix seconds.
    begin: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime] = mapped_column(UTCDateTime())


class AlertReport(Base):
    """What processes of the service tell of themselves, by minute: the use of a disk, failed logins."""

    __tablename__ = "alert_reports"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: The host name, or empty.
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: The minute's beginning, in Unix seconds.
    begin: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Double)


ALERTS, INCIDENTS, NOTICES, COUNTS, REPORTS = (
    cast(Table, model.__table__) for model in (Alert, Incident, Notice, EventCount, AlertReport)
)
