"""Adds the settings that were changed while the service runs."""

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import UTCDateTime

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. No setting is changed yet."""
    op.create_table(
        "runtime_settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_at", UTCDateTime(), nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_runtime_settings")),
    )
    version = op.create_table(
        "runtime_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("smtpd_restarts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runtime_version")),
    )
    op.bulk_insert(version, [{"id": 1, "version": 1, "smtpd_restarts": 0}])


def downgrade() -> None:
    """Drop them: from now on the settings are those of the file alone."""
    op.drop_table("runtime_version")
    op.drop_table("runtime_settings")
