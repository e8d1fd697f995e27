"""Adds SMTP accounts, their counters, and the audit."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _tenant_id() -> sa.Column[UUID]:
    return sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"))


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "smtp_accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant_id(),
        sa.Column("setting_name", sa.String(length=64), nullable=False),
        sa.Column("preset", sa.String(length=16), nullable=True),
        sa.Column("smtp_host", sa.Text(), nullable=False),
        sa.Column("smtp_port", sa.Integer(), nullable=False),
        sa.Column("smtp_username", sa.Text(), nullable=True),
        sa.Column("smtp_password", sa.Text(), nullable=True),
        sa.Column("security_protocol", sa.String(length=8), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("ca_certificate", "from_email", "from_name")),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("priority", "weight", "max_connections")),
        sa.Column("max_per_second", sa.Double(), nullable=True),
        sa.Column("max_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_per_day", sa.Integer(), nullable=True),
        sa.Column("send_interval", sa.Double(), nullable=True),
        sa.Column("recipient_domains", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_smtp_accounts")),
    )
    op.create_index(
        "uq_smtp_accounts_tenant_id_setting_name", "smtp_accounts", ["tenant_id", "setting_name"], unique=True
    )
    op.create_table(
        "smtp_pace",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("free_at", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("day", "used", "granted")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_smtp_pace")),
    )
    op.create_table(
        "smtp_circuits",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("opened_at", UTCDateTime(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "worker_id", name=op.f("pk_smtp_circuits")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant_id(),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_tenant_id_id", "audit", ["tenant_id", "id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("audit", "smtp_circuits", "smtp_pace", "smtp_accounts"):
        op.drop_table(table)
