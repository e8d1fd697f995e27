"""Adds the guard of API keys against duplicates, and the table of what they sent last."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import UTCDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the columns and the table. PostgreSQL rewrites no rows for them."""
    op.add_column("api_keys", sa.Column("duplicate_seconds", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("duplicate_policy", sa.String(8), server_default="answer", nullable=False))
    op.create_table(
        "recent_mail",
        sa.Column("guard", sa.String(64), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("guard", name=op.f("pk_recent_mail")),
    )
    op.create_index("ix_recent_mail_expires_at", "recent_mail", ["expires_at"])


def downgrade() -> None:
    """Drop them. Duplicates are sent from now on."""
    op.drop_table("recent_mail")
    # Not op.drop_column: Alembic's copy of the table would lose what it does not know.
    for name in ("duplicate_policy", "duplicate_seconds"):
        op.execute(f"ALTER TABLE api_keys DROP COLUMN {name}")
