"""PostgreSQL compresses MIME by LZ4. What is there stays as it is, and both are read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Not every PostgreSQL is built with it; one without goes on with pglz, which is only slower.
_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def upgrade() -> None:
    """Let messages that come from now on be compressed by LZ4, where there is LZ4."""
    _compress("lz4")


def downgrade() -> None:
    """Go back to what the server does by itself."""
    _compress("default")


def _compress(method: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and connection.scalar(sa.text(_HAS_LZ4)):
        op.execute(f"ALTER TABLE messages ALTER COLUMN raw SET COMPRESSION {method}")
