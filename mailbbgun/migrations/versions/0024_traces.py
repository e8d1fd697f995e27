"""Adds the trace of the request that brought a message."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column. No row is rewritten for it."""
    op.add_column("messages", sa.Column("traceparent", sa.String(55), nullable=True))


def downgrade() -> None:
    """Drop it. Traces of messages that are pending end here."""
    # Not op.drop_column: Alembic's copy of the table would lose what it does not know.
    op.execute("ALTER TABLE messages DROP COLUMN traceparent")
