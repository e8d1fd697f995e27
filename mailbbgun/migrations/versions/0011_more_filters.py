"""Indexes messages by sender, recipient domain, reason and Message-ID; counts attempts per
delivery.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mailbbgun.database.db import ascii_lower
from mailbbgun.database.texts import domain_of, mailbox_in

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

ADDRESS: sa.ColumnElement[str] = sa.column("address")
SENDER: sa.ColumnElement[str] = sa.column("sender")
FAILED = sa.text("reason IS NOT NULL")
GIVEN: dict[str, Any] = {
    "postgresql_where": sa.text("substr(message_id, 2, 36) <> id::text"),
    "sqlite_where": sa.text("replace(substr(message_id, 2, 36), '-', '') <> id"),
}


def upgrade() -> None:
    """Create the indexes and the column.

    Meanwhile an older version finds recipients more slowly.
    """
    op.add_column("deliveries", sa.Column("attempts", sa.Integer()))
    by_recipient: list[Any] = ["tenant_id", domain_of(ADDRESS), ascii_lower(ADDRESS), "message_id"]
    op.create_index("ix_deliveries_tenant_id_domain_address_message_id", "deliveries", by_recipient)
    op.drop_index("ix_deliveries_tenant_id_address_message_id", "deliveries")
    failed: dict[str, Any] = {"postgresql_where": FAILED, "sqlite_where": FAILED}
    op.create_index(
        "ix_deliveries_tenant_id_reason_message_id", "deliveries", ["tenant_id", "reason", "message_id"], **failed
    )
    op.create_index("ix_messages_tenant_id_from_id", "messages", ["tenant_id", ascii_lower(mailbox_in(SENDER)), "id"])
    op.create_index("ix_messages_tenant_id_message_id", "messages", ["tenant_id", "message_id"], **GIVEN)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_messages_tenant_id_message_id", "messages")
    op.drop_index("ix_messages_tenant_id_from_id", "messages")
    op.drop_index("ix_deliveries_tenant_id_reason_message_id", "deliveries")
    op.create_index(
        "ix_deliveries_tenant_id_address_message_id", "deliveries", ["tenant_id", ascii_lower(ADDRESS), "message_id"]
    )
    op.drop_index("ix_deliveries_tenant_id_domain_address_message_id", "deliveries")
    # Not op.drop_column: Alembic's copy of the table would lose the indexes on expressions.
    op.execute("ALTER TABLE deliveries DROP COLUMN attempts")
