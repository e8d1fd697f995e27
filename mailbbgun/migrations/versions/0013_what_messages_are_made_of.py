"""Stores messages with files, or with values of their own, as what they are made of."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

GIVEN: dict[str, Any] = {
    "postgresql_where": sa.text("content_id IS NOT NULL"),
    "sqlite_where": sa.text("content_id IS NOT NULL"),
}
COMPOSED = "SELECT count(*) FROM messages WHERE content_id IS NOT NULL AND status = 'PENDING'"


def upgrade() -> None:
    """Create the tables and the columns. ``raw`` may be null from now on."""
    op.create_table("contents", _tenant(), *_columns_of_contents(), sa.PrimaryKeyConstraint("id", name="pk_contents"))
    op.create_table(
        "content_files",
        _tenant(),
        *_columns_of_files(),
        sa.PrimaryKeyConstraint("content_id", "place", name="pk_content_files"),
        sa.ForeignKeyConstraint(
            ["content_id"], ["contents.id"], name="fk_content_files_content_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sha256"], ["blobs.tenant_id", "blobs.sha256"], name="fk_content_files_tenant_id"
        ),
    )
    op.create_index("ix_content_files_tenant_id_sha256", "content_files", ["tenant_id", "sha256"])
    op.add_column("messages", sa.Column("personal", sa.JSON()))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("messages", "raw", nullable=True)
        op.add_column("messages", sa.Column("content_id", sa.Uuid()))
        op.create_foreign_key("fk_messages_content_id", "messages", "contents", ["content_id"], ["id"])
    else:
        op.execute(
            "ALTER TABLE messages ADD COLUMN content_id CHAR(32) "
            "CONSTRAINT fk_messages_content_id REFERENCES contents (id)"
        )
        _replace_raw("BLOB")
    op.create_index("ix_messages_content_id", "messages", ["content_id"], **GIVEN)


def downgrade() -> None:
    """Drop them. Raises ``RuntimeError`` while composed messages are pending: the older version cannot send them."""
    if pending := op.get_bind().scalar(sa.text(COMPOSED)):
        raise RuntimeError(f"{pending} pending messages are stored as what they are made of: let them leave first")
    op.drop_index("ix_messages_content_id", "messages")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("fk_messages_content_id", "messages", type_="foreignkey")
        op.execute("UPDATE messages SET raw = '' WHERE raw IS NULL")
        op.alter_column("messages", "raw", nullable=False)
    else:
        _replace_raw("BLOB NOT NULL DEFAULT x''")
    # Not op.drop_column: Alembic's copy of the table would lose the indexes on expressions.
    op.execute("ALTER TABLE messages DROP COLUMN content_id")
    op.execute("ALTER TABLE messages DROP COLUMN personal")
    op.drop_table("content_files")
    op.drop_table("contents")


def _replace_raw(kind: str) -> None:
    """Change the type of ``raw`` on SQLite, which cannot alter a column: by a new one in its place."""
    op.execute(f"ALTER TABLE messages ADD COLUMN new_raw {kind}")
    op.execute("UPDATE messages SET new_raw = raw WHERE raw IS NOT NULL")
    op.execute("ALTER TABLE messages DROP COLUMN raw")
    op.execute("ALTER TABLE messages RENAME COLUMN new_raw TO raw")


def _tenant() -> sa.Column[Any]:
    return sa.Column("tenant_id", sa.Uuid(), server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"), nullable=False)


def _columns_of_contents() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("made_of", sa.LargeBinary(), nullable=False),
    ]


def _columns_of_files() -> list[sa.Column[Any]]:
    return [
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
    ]
