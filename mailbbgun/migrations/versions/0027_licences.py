"""Adds licences, their signing keys, and the seats in use."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def _tenant() -> sa.Column[UUID]:
    return sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"))


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "licence_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("retired_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence_keys")),
    )
    op.create_index("uq_licence_keys_kid", "licence_keys", ["kid"], unique=True)
    op.create_table(
        "licences",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("not_before", UTCDateTime(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=True),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("revoked_at", UTCDateTime(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.Column("superseded_by", sa.Uuid(), nullable=True),
        sa.Column("superseded_at", UTCDateTime(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licences")),
    )
    op.create_index("ix_licences_tenant_id_id", "licences", ["tenant_id", "id"])
    op.create_index("ix_licences_root_id", "licences", ["root_id"])
    op.create_index("ix_licences_kid_expires_at", "licences", ["kid", "expires_at"])
    op.create_table(
        "licence_activations",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("activated_at", UTCDateTime(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
        sa.Column("held_until", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence_activations")),
        sa.ForeignKeyConstraint(
            ["root_id"], ["licences.id"], name=op.f("fk_licence_activations_root_id"), ondelete="CASCADE"
        ),
    )
    op.create_index(
        "uq_licence_activations_root_id_fingerprint", "licence_activations", ["root_id", "fingerprint"], unique=True
    )


def downgrade() -> None:
    """Drop the tables. Tokens that were issued can then be verified by nobody who lacks the public keys."""
    for table in ("licence_activations", "licences", "licence_keys"):
        op.drop_table(table)
