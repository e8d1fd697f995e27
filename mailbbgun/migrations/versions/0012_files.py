"""Adds blobs and attachments: files of tenants."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

AWAITED = sa.text("awaited IS NOT NULL")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "blobs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("kept_until", UTCDateTime(), nullable=False),
        sa.Column("scan", sa.String(length=16), server_default="unscanned", nullable=False),
        sa.Column("scan_result", sa.Text(), nullable=True),
        sa.Column("scanned_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "sha256", name=op.f("pk_blobs")),
    )
    op.create_index("ix_blobs_tenant_id_md5", "blobs", ["tenant_id", "md5"])
    op.create_index("uq_blobs_object_id", "blobs", ["object_id"], unique=True)
    op.create_index("ix_blobs_kept_until", "blobs", ["kept_until"])
    op.create_index("ix_blobs_scan", "blobs", ["scan", "created_at"])
    op.create_table(
        "attachments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.Column("test", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("last_used_at", UTCDateTime(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("md5", sa.String(length=32), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("awaited", sa.String(length=72), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sha256"], ["blobs.tenant_id", "blobs.sha256"], name=op.f("fk_attachments_tenant_id")
        ),
    )
    op.create_index("ix_attachments_tenant_id_id", "attachments", ["tenant_id", "id"])
    op.create_index("ix_attachments_tenant_id_sha256", "attachments", ["tenant_id", "sha256"])
    op.create_index("ix_attachments_tenant_id_md5", "attachments", ["tenant_id", "md5"])
    awaited: dict[str, Any] = {"postgresql_where": AWAITED, "sqlite_where": AWAITED}
    op.create_index("ix_attachments_tenant_id_awaited", "attachments", ["tenant_id", "awaited"], **awaited)
    op.create_index("ix_attachments_last_used_at", "attachments", ["last_used_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("attachments")
    op.drop_table("blobs")
