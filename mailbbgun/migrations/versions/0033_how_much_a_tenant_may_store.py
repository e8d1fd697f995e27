"""Adds the limit of a tenant's files, and the count of their bytes."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column and the table, and count what there is. PostgreSQL rewrites no rows for them."""
    op.add_column("tenants", sa.Column("max_storage", sa.BigInteger(), nullable=True))
    op.create_table(
        "tenant_storage",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_storage")),
    )
    op.execute("INSERT INTO tenant_storage (tenant_id, used) SELECT tenant_id, sum(size) FROM blobs GROUP BY tenant_id")


def downgrade() -> None:
    """Drop them. Tenants may store as much as they like from now on."""
    op.drop_table("tenant_storage")
    # Not op.drop_column: Alembic's copy of the table would lose what it does not know.
    op.execute("ALTER TABLE tenants DROP COLUMN max_storage")
