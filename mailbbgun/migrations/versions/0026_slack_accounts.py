"""Adds Slack accounts."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "slack_accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("bot_token", sa.Text(), nullable=True),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("secret_shown", sa.String(64), nullable=False),
        sa.Column("default_channel", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slack_accounts")),
    )
    op.create_index("uq_slack_accounts_tenant_id_name", "slack_accounts", ["tenant_id", "name"], unique=True)


def downgrade() -> None:
    """Drop the table. Messages to Slack that wait then bounce."""
    op.drop_table("slack_accounts")
