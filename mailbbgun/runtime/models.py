"""The tables of the runtime configuration."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base, UTCDateTime


class RuntimeSetting(Base):
    """A setting that has another value than the sysadmin's file and environment give it."""

    __tablename__ = "runtime_settings"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: In JSON. Not a column of that type: SQLite would make a number of a text that looks like one.
    value: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime())
    changed_by: Mapped[UUID | None]  # the API key; null: a request without a key, or the command line


class RuntimeVersion(Base):
    """One row, which every process reads each second. Each change of the settings adds 1 to ``version``."""

    __tablename__ = "runtime_version"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 1
    version: Mapped[int] = mapped_column(BigInteger)
    #: How often somebody asked the SMTP door to restart.
    smtpd_restarts: Mapped[int] = mapped_column(BigInteger)
