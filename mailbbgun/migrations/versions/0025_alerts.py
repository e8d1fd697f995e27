"""Adds alerts: rules, incidents, notices, counts and reports."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TENANT = sa.text(f"'{DEFAULT_TENANT.hex}'")
OPEN, UNSENT = sa.text("resolved_at IS NULL"), sa.text("done_at IS NULL")


def upgrade() -> None:
    """Create the tables. They are new, so nobody waits."""
    _create_alerts()
    _create_incidents()
    _create_notices()
    op.create_table(
        "alert_counts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("seconds", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("begin", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("last_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "seconds", "begin", "kind", name="pk_alert_counts"),
    )
    op.create_table(
        "alert_reports",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("begin", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "subject", "begin", name="pk_alert_reports"),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("all_tenants", sa.Boolean(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("resolve_threshold", sa.Double(), nullable=False),
        sa.Column("for_seconds", sa.Integer(), nullable=False),
        sa.Column("resolve_seconds", sa.Integer(), nullable=False),
        sa.Column("window_seconds", sa.Integer(), nullable=False),
        sa.Column("least", sa.Integer(), nullable=False),
        sa.Column("group_seconds", sa.Integer(), nullable=False),
        sa.Column("emails", sa.JSON(), nullable=False),
        sa.Column("slack_channel", sa.Text()),
        sa.Column("webhook_url", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("silenced_until", UTCDateTime()),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("checked_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("uq_alerts_tenant_id_name", "alerts", ["tenant_id", "name"], unique=True)
    op.create_index("ix_alerts_checked_at", "alerts", ["checked_at"])


def _create_incidents() -> None:
    op.create_table(
        "alert_incidents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("held", sa.Double(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("peak", sa.Double(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.Column("since", UTCDateTime(), nullable=False),
        sa.Column("fired_at", UTCDateTime()),
        sa.Column("resolved_at", UTCDateTime()),
        sa.Column("notice_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("id", name="pk_alert_incidents"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_alert_incidents_alert_id", ondelete="CASCADE"),
    )
    op.create_index("ix_alert_incidents_tenant_id_id", "alert_incidents", ["tenant_id", "id"])
    op.create_index("ix_alert_incidents_alert_id_id", "alert_incidents", ["alert_id", "id"])
    op.create_index("ix_alert_incidents_resolved_at", "alert_incidents", ["resolved_at"])
    op.create_index(
        "uq_alert_incidents_open",
        "alert_incidents",
        ["alert_id", "subject"],
        unique=True,
        postgresql_where=OPEN,
        sqlite_where=OPEN,
    )


def _create_notices() -> None:
    op.create_table(
        "alert_notices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("change_id", sa.Uuid(), nullable=False),
        sa.Column("about", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("due_at", UTCDateTime(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("done_at", UTCDateTime()),
        sa.Column("error", sa.Text()),
        sa.Column("message_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("id", name="pk_alert_notices"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_alert_notices_alert_id", ondelete="CASCADE"),
    )
    op.create_index("ix_alert_notices_alert_id", "alert_notices", ["alert_id"])
    op.create_index(
        "ix_alert_notices_unsent", "alert_notices", ["due_at"], postgresql_where=UNSENT, sqlite_where=UNSENT
    )


def downgrade() -> None:
    """Drop them. Nobody is told of anything from now on."""
    for table in ("alert_reports", "alert_counts", "alert_notices", "alert_incidents", "alerts"):
        op.drop_table(table)
