"""Adds sending domains and their DKIM keys."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

UNUSED = sa.text("active_from IS NULL")
TENANT = sa.text(f"'{DEFAULT_TENANT.hex}'")


def upgrade() -> None:
    """Create the tables. They are new, so nobody waits."""
    op.create_table(
        "domains",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("checked_at", UTCDateTime()),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_domains"),
    )
    op.create_index("uq_domains_tenant_id_name", "domains", ["tenant_id", "name"], unique=True)
    op.create_table(
        "dkim_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=TENANT),
        sa.Column("domain_id", sa.Uuid(), nullable=False),
        sa.Column("selector", sa.String(63), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("active_from", UTCDateTime()),
        sa.Column("retired_at", UTCDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_dkim_keys"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_dkim_keys_domain_id", ondelete="CASCADE"),
    )
    op.create_index("uq_dkim_keys_domain_id_selector", "dkim_keys", ["domain_id", "selector"], unique=True)
    op.create_index("ix_dkim_keys_pending", "dkim_keys", ["domain_id"], postgresql_where=UNUSED, sqlite_where=UNUSED)
    op.create_index("ix_dkim_keys_retired_at", "dkim_keys", ["retired_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("dkim_keys")
    op.drop_table("domains")
