"""Adds the sums of the statistics, and who counts them."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import UTCDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. The log is counted from its beginning."""
    op.create_table(
        "statistics",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("interval", sa.String(8), nullable=False),
        sa.Column("dimension", sa.String(8), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "interval", "dimension", "start", "value", "test", name=op.f("pk_statistics")
        ),
    )
    op.create_index("ix_statistics_interval_start", "statistics", ["interval", "start"])
    op.create_table(
        "statistics_readers",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.Uuid(), nullable=True),
        sa.Column("lease_until", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_statistics_readers")),
    )


def downgrade() -> None:
    """Drop them. They are counted again after the next upgrade."""
    op.drop_table("statistics_readers")
    op.drop_table("statistics")
    op.execute("DELETE FROM cursors WHERE name = '.statistics'")
