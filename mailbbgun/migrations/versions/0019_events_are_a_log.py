"""Events become a log: each has a position, and they outlive their messages.

On PostgreSQL the table is partitioned by month. The old table becomes the first partition, so no row is
copied; PostgreSQL reads it once, to check its times and to make the new index.
"""

from datetime import UTC, datetime
from itertools import pairwise

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_COLUMNS = "id, tenant_id, message_id, delivery_id, at, kind, data"
_BY_MESSAGE, _BY_POSITION = "ix_events_message_id_id", "ix_events_tenant_id_position_id"

# A batch has one event for all its messages: that of its last message, with the same id.
_OF_BATCHES = f"""
INSERT INTO events ({_COLUMNS}{{position}})
SELECT last_id, tenant_id, last_id, NULL, created_at, 'accepted', {{data}}{{zero}} FROM batches WHERE messages > 0
"""
_POSTGRESQL_DATA = "json_build_object('batch_id', id, 'first_id', first_id, 'messages', messages)"


def upgrade() -> None:
    """Make the log of the events that there are, and the tables of its readers."""
    op.create_table(
        "cursors",
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_cursors")),
    )
    positions = op.create_table(
        "event_positions",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_positions")),
    )
    op.bulk_insert(positions, [{"id": 1, "added": 0, "reached": 0}])
    if op.get_bind().dialect.name == "postgresql":
        _partition()
        op.execute(_OF_BATCHES.format(data=_POSTGRESQL_DATA, position=", position", zero=", 0"))
    else:
        _number()
        op.execute(_OF_BATCHES.format(data=_sqlite_data(), position="", zero=""))


def _sqlite_data() -> str:
    # As UUIDs are written in JSON. SQLite keeps them without hyphens.
    def shown(name: str) -> str:
        parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        return " || '-' || ".join(f"substr({name}, {first}, {length})" for first, length in parts)

    return f"json_object('batch_id', {shown('id')}, 'first_id', {shown('first_id')}, 'messages', messages)"


def _partition() -> None:
    bind = op.get_bind()
    last = bind.scalar(sa.text("SELECT greatest(max(at), now()) FROM events"))
    this = last.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    bounds = [this]
    for _ in range(3):  # a table for the months before, and two more; later ones are made ahead
        bounds.append(_month_after(bounds[-1]))
    for statement in (
        "ALTER TABLE events RENAME TO events_before",
        "ALTER TABLE events_before DROP CONSTRAINT fk_events_message_id, DROP CONSTRAINT pk_events, "
        "ALTER COLUMN message_id DROP NOT NULL, ADD COLUMN position bigint NOT NULL DEFAULT 0",
        f"ALTER INDEX {_BY_MESSAGE} RENAME TO events_before_message_id_id",
        "CREATE INDEX events_before_tenant_id_position_id ON events_before (tenant_id, position, id)",
        # In the order of the columns of the old table, so that PostgreSQL need not rearrange its rows.
        "CREATE TABLE events (LIKE events_before) PARTITION BY RANGE (at)",
        f"ALTER TABLE events ALTER COLUMN tenant_id SET DEFAULT '{DEFAULT_TENANT}', "
        "ALTER COLUMN position SET DEFAULT pg_current_xact_id()::text::bigint + 0",
        "CREATE TABLE events_default PARTITION OF events DEFAULT",
        f"ALTER TABLE events ATTACH PARTITION events_before FOR VALUES FROM (MINVALUE) TO ('{bounds[1].isoformat()}')",
        *(
            f"CREATE TABLE events_{first:%Y_%m} PARTITION OF events "
            f"FOR VALUES FROM ('{first.isoformat()}') TO ('{end.isoformat()}')"
            for first, end in pairwise(bounds[1:])
        ),
        # PostgreSQL takes the old table's indexes as their parts.
        f"CREATE INDEX {_BY_MESSAGE} ON events (message_id, id)",
        f"CREATE INDEX {_BY_POSITION} ON events (tenant_id, position, id)",
    ):
        bind.exec_driver_sql(statement)


def _month_after(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _number() -> None:
    op.execute("ALTER TABLE events RENAME TO events_before")
    op.drop_index(_BY_MESSAGE, "events_before")
    # AUTOINCREMENT: a position is never used again, even if the newest events were deleted.
    op.execute(
        "CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, id CHAR(32) NOT NULL, "
        f"tenant_id CHAR(32) DEFAULT '{DEFAULT_TENANT.hex}' NOT NULL, message_id CHAR(32), delivery_id CHAR(32), "
        "at DATETIME NOT NULL, kind VARCHAR(32) NOT NULL, data JSON NOT NULL)"
    )
    op.execute(f"INSERT INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM events_before ORDER BY id")
    op.execute("DROP TABLE events_before")
    op.create_index(_BY_MESSAGE, "events", ["message_id", "id"])
    op.create_index(_BY_POSITION, "events", ["tenant_id", "position", "id"])


def downgrade() -> None:
    """Make the plain table again. Events of deleted messages, and those without a message, are lost."""
    op.drop_table("event_positions")
    op.drop_table("cursors")
    op.drop_index(_BY_POSITION, "events")
    op.drop_index(_BY_MESSAGE, "events")
    op.execute("ALTER TABLE events RENAME TO events_log")
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_events_message_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.execute(
        f"INSERT INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM events_log AS l "
        "WHERE l.id <> l.message_id AND EXISTS (SELECT 1 FROM messages WHERE messages.id = l.message_id)"
    )
    op.drop_table("events_log")
    op.create_index(_BY_MESSAGE, "events", ["message_id", "id"])
