"""Compresses the MIME of new messages by LZ4 on PostgreSQL.

Older rows stay as they are; both are readable.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Some builds of PostgreSQL lack LZ4. They continue with pglz, which is only slower.
_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def upgrade() -> None:
    """Compress new messages by LZ4, where the server supports it."""
    _compress("lz4")


def downgrade() -> None:
    """Go back to the server's default compression."""
    _compress("default")


def _compress(method: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and connection.scalar(sa.text(_HAS_LZ4)):
        op.execute(f"ALTER TABLE messages ALTER COLUMN raw SET COMPRESSION {method}")
