"""Adds local domains, mailboxes and the mail in them; tells received messages from sent ones."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def _tenant() -> "sa.Column[Any]":
    return sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"))


def _flag(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _text(name: str, *, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.Text(), nullable=nullable)


def upgrade() -> None:
    """Add the columns and create the tables."""
    op.add_column("messages", _flag("received"))
    op.add_column("domains", _flag("local"))
    op.add_column("domains", _flag("local_for_all"))
    op.add_column("domains", sa.Column("policy", sa.String(16), nullable=False, server_default="none"))
    op.create_index(
        "uq_domains_local",
        "domains",
        ["name"],
        unique=True,
        postgresql_where=sa.text("local"),
        sqlite_where=sa.text("local = 1"),
    )
    op.create_table(
        "mailboxes",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        _text("address"),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_messages", sa.Integer(), nullable=True),
        _text("catch_all_for", nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailboxes")),
    )
    op.create_index("uq_mailboxes_tenant_id_address", "mailboxes", ["tenant_id", "address"], unique=True)
    op.create_index("uq_mailboxes_tenant_id_catch_all_for", "mailboxes", ["tenant_id", "catch_all_for"], unique=True)
    op.create_index("ix_mailboxes_tenant_id_id", "mailboxes", ["tenant_id", "id"])
    op.create_table(
        "mailbox_aliases",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        _text("address"),
        sa.Column("mailbox_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_mailbox_aliases_mailbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailbox_aliases")),
    )
    op.create_index("uq_mailbox_aliases_tenant_id_address", "mailbox_aliases", ["tenant_id", "address"], unique=True)
    op.create_index("ix_mailbox_aliases_mailbox_id", "mailbox_aliases", ["mailbox_id"])
    _create_mail()


def _create_mail() -> None:
    op.create_table(
        "mailbox_contents",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailbox_contents")),
    )
    op.create_table(
        "mailbox_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        _tenant(),
        sa.Column("mailbox_id", sa.Uuid(), nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("folder", sa.String(200), nullable=False, server_default="INBOX"),
        _flag("read"),
        _flag("flagged"),
        sa.Column("received_at", UTCDateTime(), nullable=False),
        *(_text(name) for name in ("mail_from", "rcpt_to", "subject", "sender", "message_id_header")),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("has_attachments", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_mailbox_messages_mailbox_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["content_id"], ["mailbox_contents.id"], name=op.f("fk_mailbox_messages_content_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailbox_messages")),
    )
    op.create_index("uq_mailbox_messages_delivery_id", "mailbox_messages", ["delivery_id"], unique=True)
    op.create_index("ix_mailbox_messages_mailbox_id_folder_id", "mailbox_messages", ["mailbox_id", "folder", "id"])
    op.create_index("ix_mailbox_messages_mailbox_id_size", "mailbox_messages", ["mailbox_id", "size"])
    op.create_index("ix_mailbox_messages_content_id", "mailbox_messages", ["content_id"])


def downgrade() -> None:
    """Drop the tables with the mail in them, and the columns."""
    for table in ("mailbox_messages", "mailbox_contents", "mailbox_aliases", "mailboxes"):
        op.drop_table(table)
    op.drop_index("uq_domains_local", "domains")
    op.drop_column("domains", "policy")
    op.drop_column("domains", "local_for_all")
    op.drop_column("domains", "local")
    op.drop_column("messages", "received")
