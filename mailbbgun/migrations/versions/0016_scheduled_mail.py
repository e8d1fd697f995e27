"""Stores when a message is to be sent, and until when it is useful."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0011"
branch_labels = None
depends_on = None

_UNHINTED = "status = 'PENDING' AND lease_owner IS NULL AND published_at IS NULL"


def upgrade() -> None:
    """Create the columns and the index. PostgreSQL rewrites no rows for them."""
    for name in ("send_at", "useful_until"):
        op.add_column("messages", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("deliveries", sa.Column("scheduled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_deliveries_scheduled",
        "deliveries",
        ["lane", "next_attempt_at"],
        postgresql_where=sa.text(f"{_UNHINTED} AND scheduled"),
        sqlite_where=sa.text(f"{_UNHINTED} AND scheduled = 1"),
    )


def downgrade() -> None:
    """Drop them. What is scheduled is still sent when it is due, up to a second later."""
    op.drop_index("ix_deliveries_scheduled", "deliveries")
    # Not op.drop_column: Alembic's copy of the table would lose the indexes on expressions.
    op.execute("ALTER TABLE deliveries DROP COLUMN scheduled")
    for name in ("useful_until", "send_at"):
        op.execute(f"ALTER TABLE messages DROP COLUMN {name}")
