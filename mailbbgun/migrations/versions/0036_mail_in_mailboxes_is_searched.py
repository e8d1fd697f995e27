"""Adds the words of the mail in mailboxes. Mail that is there already is not found by its words."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from mailbbgun.core.ids import DEFAULT_TENANT

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
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


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("mailbox_words")
