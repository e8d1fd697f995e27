"""The tables of statistics."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Index, String, Table, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, Owned, UTCDateTime


class Statistic(Owned, Base):
    """The sums of one interval: of all mail of a tenant, or of that with one tag, domain or account."""

    __tablename__ = "statistics"
    __table_args__ = (Index("ix_statistics_interval_start", "interval", "start"),)  # for what is too old

    tenant_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    #: ``minute``, ``hour`` or ``day``.
    interval: Mapped[str] = mapped_column(String(8), primary_key=True)
    #: ``counting.Dimension``.
    dimension: Mapped[str] = mapped_column(String(8), primary_key=True)
    #: When it begins: seconds since 1970.
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    #: The tag, domain or account; empty for all mail, and for the labels beyond STATISTICS_LABELS.
    value: Mapped[str] = mapped_column(Text, primary_key=True)
    #: Whether test keys sent the mail.
    test: Mapped[bool] = mapped_column(primary_key=True)
    #: Name → count.
    counts: Mapped[dict[str, int]] = mapped_column(JSON)
    #: Number of a bucket (``histogram``) → how many deliveries took so long.
    times: Mapped[dict[str, int]] = mapped_column(JSON)


class StatisticsReader(Base):
    """Who counts the events of a tenant. The cursor ``.statistics`` moves only while this row is locked."""

    __tablename__ = "statistics_readers"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: Events before this are not counted: seconds since 1970. Null: all are.
    since: Mapped[int | None] = mapped_column(BigInteger)
    #: The process that counts now, until ``lease_until``. Another one would only do the same work in vain.
    owner: Mapped[UUID | None]
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime())


STATISTICS, READERS = (cast(Table, model.__table__) for model in (Statistic, StatisticsReader))
