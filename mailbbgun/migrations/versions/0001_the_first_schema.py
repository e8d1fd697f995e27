"""The first schema."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import UTCDateTime, ascii_lower

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


PENDING = "status = 'PENDING' AND lease_owner IS NULL"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("mail_from", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("smtputf8", sa.Boolean(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_status_id", "messages", ["status", "id"])
    op.create_table(
        "queue_hints",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("lane", sa.String(length=8), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("visible_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue_hints")),
    )
    op.create_index("ix_queue_hints_lane_visible_at", "queue_hints", ["lane", "visible_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("beat_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=3), nullable=False),
        sa.Column("lane", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("unknowns", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", UTCDateTime(), nullable=True),
        sa.Column("published_at", UTCDateTime(), nullable=True),
        sa.Column("lease_owner", sa.Uuid(), nullable=True),
        sa.Column("lease_until", UTCDateTime(), nullable=True),
        sa.Column("reply_code", sa.SmallInteger(), nullable=True),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_deliveries_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_address_message_id", "deliveries", [ascii_lower(sa.column("address")), "message_id"])
    op.create_index(
        "ix_deliveries_alone",
        "deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text(f"{PENDING} AND crashes >= 2"),
        sqlite_where=sa.text(f"{PENDING} AND crashes >= 2"),
    )
    op.create_index(
        "ix_deliveries_delayed",
        "deliveries",
        ["lane", "next_attempt_at"],
        postgresql_where=sa.text(f"{PENDING} AND published_at < next_attempt_at"),
        sqlite_where=sa.text(f"{PENDING} AND published_at < next_attempt_at"),
    )
    op.create_index(
        "ix_deliveries_hinted",
        "deliveries",
        ["lane", "published_at"],
        postgresql_where=sa.text(f"{PENDING} AND published_at >= next_attempt_at"),
        sqlite_where=sa.text(f"{PENDING} AND published_at >= next_attempt_at"),
    )
    op.create_index(
        "ix_deliveries_leased",
        "deliveries",
        ["lease_owner", "lease_until"],
        postgresql_where=sa.text("lease_owner IS NOT NULL"),
        sqlite_where=sa.text("lease_owner IS NOT NULL"),
    )
    op.create_index(op.f("ix_deliveries_message_id"), "deliveries", ["message_id"])
    op.create_index(
        "ix_deliveries_unhinted",
        "deliveries",
        ["lane", "next_attempt_at"],
        postgresql_where=sa.text(f"{PENDING} AND published_at IS NULL"),
        sqlite_where=sa.text(f"{PENDING} AND published_at IS NULL"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_events_message_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_message_id_id", "events", ["message_id", "id"])
    op.create_table(
        "message_tags",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_message_tags_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tag", "message_id", name=op.f("pk_message_tags")),
    )
    op.create_index(op.f("ix_message_tags_message_id"), "message_tags", ["message_id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("message_tags", "events", "deliveries", "workers", "queue_hints", "messages", "idempotency_keys"):
        op.drop_table(table)
