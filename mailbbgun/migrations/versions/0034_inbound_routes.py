"""Adds inbound routes, and for whom a route has made a delivery."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the column. PostgreSQL rewrites no rows for it."""
    op.add_column("deliveries", sa.Column("received_for", sa.Text(), nullable=True))
    op.create_table(
        "inbound_routes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("matching", sa.JSON(), nullable=False),
        sa.Column("actions", sa.JSON(), nullable=False),
        sa.Column("stop", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbound_routes")),
    )
    op.create_index(
        "ix_inbound_routes_tenant_id_priority_id", "inbound_routes", ["tenant_id", "priority", "id"], unique=False
    )


def downgrade() -> None:
    """Drop them. Deliveries of received mail that routes have made, and that wait, then end as ERROR."""
    op.drop_table("inbound_routes")
    # Not op.drop_column: Alembic's copy of the table would lose what it does not know.
    op.execute("ALTER TABLE deliveries DROP COLUMN received_for")
