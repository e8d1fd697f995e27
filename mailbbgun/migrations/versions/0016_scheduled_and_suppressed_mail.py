"""Stores when a message is to be sent, until when it is useful, and who must not be written to."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT

revision = "0016"
down_revision = "0015"
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

    _create_suppressions()


def _create_suppressions() -> None:
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"), nullable=False),
        sa.Column("test", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
    )
    op.create_index(
        "ix_suppressions_tenant_id_target_test", "suppressions", ["tenant_id", "target", "test"], unique=True
    )
    op.create_index("ix_suppressions_tenant_id_test_id", "suppressions", ["tenant_id", "test", "id"])
    op.create_index("ix_suppressions_expires_at", "suppressions", ["expires_at"])
    op.add_column("tenants", sa.Column("has_suppressions", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Drop them. What is scheduled is still sent when it is due, up to a second later."""
    op.execute("ALTER TABLE tenants DROP COLUMN has_suppressions")
    op.drop_table("suppressions")
    op.drop_index("ix_deliveries_scheduled", "deliveries")
    # Not op.drop_column: Alembic's copy of the table would lose the indexes on expressions.
    op.execute("ALTER TABLE deliveries DROP COLUMN scheduled")
    for name in ("useful_until", "send_at"):
        op.execute(f"ALTER TABLE messages DROP COLUMN {name}")
