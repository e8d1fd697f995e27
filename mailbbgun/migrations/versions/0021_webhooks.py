"""Webhooks: endpoints, what they still have to get, what failed."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"))


def _endpoint(table: str) -> tuple[sa.Column[object], sa.ForeignKeyConstraint]:
    name = op.f(f"fk_{table}_endpoint_id")
    key = sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoints.id"], name=name, ondelete="CASCADE")
    return sa.Column("endpoint_id", sa.Uuid(), nullable=False), key


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_until", UTCDateTime(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("failing_since", UTCDateTime(), nullable=True),
        sa.Column("pauses", sa.Integer(), nullable=False),
        sa.Column("paused_until", UTCDateTime(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Uuid(), nullable=True),
        sa.Column("lease_until", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index("ix_webhook_endpoints_tenant_id_id", "webhook_endpoints", ["tenant_id", "id"])
    op.create_index("ix_webhook_endpoints_lease_owner", "webhook_endpoints", ["lease_owner"])
    op.create_table(
        "webhook_retries",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        *_endpoint("webhook_retries"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_retries")),
    )
    op.create_index("ix_webhook_retries_endpoint_id_next_at", "webhook_retries", ["endpoint_id", "next_at"])
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        *_endpoint("webhook_attempts"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("request_headers", sa.JSON(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer_headers", sa.JSON(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index("ix_webhook_attempts_endpoint_id_id", "webhook_attempts", ["endpoint_id", "id"])
    op.create_index("ix_webhook_attempts_at", "webhook_attempts", ["at"])
    op.create_table(
        "webhook_replays",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        *_endpoint("webhook_replays"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("until_position", sa.BigInteger(), nullable=False),
        sa.Column("until_event_id", sa.Uuid(), nullable=False),
        sa.Column("from_at", UTCDateTime(), nullable=False),
        sa.Column("to_at", UTCDateTime(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_replays")),
    )
    op.create_index("ix_webhook_replays_endpoint_id_id", "webhook_replays", ["endpoint_id", "id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("webhook_replays", "webhook_attempts", "webhook_retries", "webhook_endpoints"):
        op.drop_table(table)
