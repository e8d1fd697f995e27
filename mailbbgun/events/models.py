"""The tables of the log, and of its readers' places."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, FetchedValue, Index, Integer, SmallInteger, String, Table
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime


class Event(Owned, Base):
    """An event of a message, of one delivery of it, or of neither. Never changed.

    No foreign key: events outlive their messages until EVENT_DAYS, and each key would cost accept a look at
    the message. On PostgreSQL the table has a partition for each month of ``at`` (``storage/partitions.py``), and no
    primary key in the database, since that would have to have ``at`` in it. On SQLite ``position`` is the
    primary key.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_message_id_id", "message_id", "id"),
        Index("ix_events_tenant_id_position_id", "tenant_id", "position", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    message_id: Mapped[UUID | None]
    delivery_id: Mapped[UUID | None]
    at: Mapped[datetime] = mapped_column(UTCDateTime())
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: The database gives it. PostgreSQL: the id of the transaction, plus ``added`` of :class:`EventPositions`.
    #: SQLite: a number that only grows.
    position: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), server_default=FetchedValue())


class EventPositions(Base):
    """The one row that keeps positions growing when a database moves to another server (``storage/settled.py``).

    Its tables come along, but the new server's transaction ids may be lower than the positions in them.
    """

    __tablename__ = "event_positions"

    #: Always 1.
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    #: What the default of ``events.position`` adds to the id of a transaction.
    added: Mapped[int] = mapped_column(BigInteger)
    #: No event that was ever deleted by retention had a higher position than this.
    reached: Mapped[int] = mapped_column(BigInteger)


class Cursor(Owned, Base):
    """The place of a reader in the log of a tenant: all events up to it are read and acknowledged."""

    __tablename__ = "cursors"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: A name that begins with a dot is of a reader of our own, such as ``.statistics``.
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[UUID]
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())


EVENTS, CURSORS, POSITIONS = (cast(Table, model.__table__) for model in (Event, Cursor, EventPositions))

#: What an insertion gives of an event: all but what the database itself gives.
EVENT_COLUMNS = tuple(column.name for column in EVENTS.columns if column.name != "position")
