"""How many recipients of a message an SMTP account's server takes at once, and the address that its bounces go to."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; null is what was before."""
    op.add_column("smtp_accounts", sa.Column("max_recipients_per_message", sa.Integer(), nullable=True))
    op.add_column("smtp_accounts", sa.Column("envelope_from", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    with op.batch_alter_table("smtp_accounts") as table:
        table.drop_column("envelope_from")
        table.drop_column("max_recipients_per_message")
