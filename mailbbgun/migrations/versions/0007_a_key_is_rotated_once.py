"""Records when an API key was rotated.

A second rotation would make a key that ends with the first.
"""

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import UTCDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("api_keys", sa.Column("rotated_at", UTCDateTime()))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("api_keys") as table:
        table.drop_column("rotated_at")
