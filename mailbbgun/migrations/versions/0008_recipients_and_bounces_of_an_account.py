"""Adds two fields of SMTP accounts: most recipients per message, and the address for bounces."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; null keeps the former behaviour."""
    op.add_column("smtp_accounts", sa.Column("max_recipients_per_message", sa.Integer(), nullable=True))
    op.add_column("smtp_accounts", sa.Column("envelope_from", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop both columns."""
    with op.batch_alter_table("smtp_accounts") as table:
        table.drop_column("envelope_from")
        table.drop_column("max_recipients_per_message")
