"""Adds the words of the mail in mailboxes, and counts it. Mail that is there already is not found by its words."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from mailbbgun.core.ids import DEFAULT_TENANT

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the columns, and count what there is."""
    op.create_table(
        "mailbox_words",
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'")),
        sa.Column("words", sa.Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"], ["mailbox_contents.id"], name=op.f("fk_mailbox_words_content_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_mailbox_words")),
    )
    empty = sa.text("words IS NULL")
    op.create_index("ix_mailbox_words_words", "mailbox_words", ["words"], postgresql_using="gin", sqlite_where=empty)
    op.add_column("mailboxes", sa.Column("used_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("mailboxes", sa.Column("used_messages", sa.Integer(), nullable=False, server_default="0"))
    its = "FROM mailbox_messages WHERE mailbox_id = mailboxes.id"
    op.execute(
        f"UPDATE mailboxes SET used_messages = (SELECT count(*) {its}),"
        f" used_bytes = (SELECT coalesce(sum(size), 0) {its})"
    )
    op.drop_index("ix_mailbox_messages_mailbox_id_size", "mailbox_messages")


def downgrade() -> None:
    """Drop them."""
    op.create_index("ix_mailbox_messages_mailbox_id_size", "mailbox_messages", ["mailbox_id", "size"])
    # Not op.drop_column: Alembic's copy of the table would lose what it does not know.
    op.execute("ALTER TABLE mailboxes DROP COLUMN used_messages")
    op.execute("ALTER TABLE mailboxes DROP COLUMN used_bytes")
    op.drop_table("mailbox_words")
