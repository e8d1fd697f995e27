"""Adds the counts of tracked messages, and the addresses of their readers."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TENANT = sa.text(f"'{DEFAULT_TENANT.hex}'")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tracked_counts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("visitor", sa.String(8), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name="fk_tracked_counts_message_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_id", "kind", "visitor", name="pk_tracked_counts"),
    )
    op.create_table(
        "tracked_addresses",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name="fk_tracked_addresses_message_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event_id", name="pk_tracked_addresses"),
    )
    op.create_index("ix_tracked_addresses_message_id", "tracked_addresses", ["message_id"])
    op.create_index("ix_tracked_addresses_at", "tracked_addresses", ["at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("tracked_addresses")
    op.drop_table("tracked_counts")
