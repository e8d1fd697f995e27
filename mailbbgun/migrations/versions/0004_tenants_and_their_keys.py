"""Adds tenants and their API keys.

All existing rows belong to the tenant ``default``. So do rows that an older version still writes
during the upgrade.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import UTCDateTime, ascii_lower

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OWNED = ("messages", "deliveries", "events", "message_tags", "message_counts")
HELD = sa.text("status = 'PENDING' AND lease_owner IS NULL AND next_attempt_at IS NULL")

_FUNCTION = """
CREATE OR REPLACE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO message_counts ({columns}, n) SELECT {columns}, count(*) FROM added GROUP BY {columns};
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO message_counts ({columns}, n) SELECT {columns}, -count(*) FROM gone GROUP BY {columns};
    ELSE
        INSERT INTO message_counts ({columns}, n)
        SELECT {columns}, sum(change)
        FROM (SELECT {columns}, 1 AS change FROM added UNION ALL SELECT {columns}, -1 FROM gone) AS changes
        GROUP BY {columns} HAVING sum(change) <> 0;
    END IF;
    RETURN NULL;
END $$
"""
_TENANT = "tenant_id = {row}.tenant_id AND status = {row}.status"
_ADD_OF = (
    "INSERT INTO message_counts (tenant_id, status, n) SELECT NEW.tenant_id, NEW.status, 0 "
    f"WHERE NOT EXISTS (SELECT 1 FROM message_counts WHERE {_TENANT.format(row='NEW')}); "
    f"UPDATE message_counts SET n = n + 1 WHERE {_TENANT.format(row='NEW')};"
)
_TAKE_OF = f"UPDATE message_counts SET n = n - 1 WHERE {_TENANT.format(row='OLD')};"
_ADD = "UPDATE message_counts SET n = n + 1 WHERE status = NEW.status;"
_TAKE = "UPDATE message_counts SET n = n - 1 WHERE status = OLD.status;"
# An older version does not know deliveries that are held.
_FREED = """
UPDATE deliveries SET next_attempt_at = (SELECT created_at FROM messages WHERE messages.id = deliveries.message_id)
WHERE status = 'PENDING' AND next_attempt_at IS NULL
"""
# An older version would never look at the overflow lane.
_BACK_TO_NORMAL = (
    "UPDATE deliveries SET lane = 'normal', published_at = NULL WHERE lane = 'crowd' AND status = 'PENDING'"
)
# An older version would send the mail of test keys to its real recipients.
_TESTS_END = "UPDATE {table} SET status = 'CANCELLED' WHERE status = 'PENDING' AND {which}"


def upgrade() -> None:
    """Give every row an owner."""
    _new_tables()
    for table in OWNED:
        op.add_column(
            table, sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=sa.text(f"'{DEFAULT_TENANT.hex}'"))
        )
    op.add_column("messages", sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_messages_tenant_id_id", "messages", ["tenant_id", "id"])
    op.create_index("ix_messages_tenant_id_status_id", "messages", ["tenant_id", "status", "id"])
    op.drop_index("ix_messages_status_id", "messages")
    op.create_index(
        "ix_deliveries_tenant_id_address_message_id",
        "deliveries",
        ["tenant_id", ascii_lower(sa.column("address")), "message_id"],
    )
    op.drop_index("ix_deliveries_address_message_id", "deliveries")
    op.create_index("ix_deliveries_held", "deliveries", ["tenant_id"], postgresql_where=HELD, sqlite_where=HELD)
    with op.batch_alter_table("message_tags", recreate="auto") as tags:
        tags.drop_constraint(op.f("pk_message_tags"), type_="primary")
        tags.create_primary_key(op.f("pk_message_tags"), ["message_id", "tag"])
    op.drop_index(op.f("ix_message_tags_message_id"), "message_tags")
    op.create_index("ix_message_tags_tenant_id_tag_message_id", "message_tags", ["tenant_id", "tag", "message_id"])
    op.create_index("ix_message_counts_tenant_id_status", "message_counts", ["tenant_id", "status"])
    _count("tenant_id, status", _ADD_OF, _TAKE_OF)


def downgrade() -> None:
    """Drop the owners."""
    _count("status", _ADD, _TAKE)
    op.drop_index("ix_message_counts_tenant_id_status", "message_counts")
    op.drop_index("ix_message_tags_tenant_id_tag_message_id", "message_tags")
    with op.batch_alter_table("message_tags", recreate="auto") as tags:
        tags.drop_constraint(op.f("pk_message_tags"), type_="primary")
        tags.create_primary_key(op.f("pk_message_tags"), ["tag", "message_id"])
    op.create_index(op.f("ix_message_tags_message_id"), "message_tags", ["message_id"])
    op.drop_index("ix_deliveries_held", "deliveries")
    op.execute(_FREED)
    op.execute(_BACK_TO_NORMAL)
    op.execute(_TESTS_END.format(table="deliveries", which="message_id IN (SELECT id FROM messages WHERE test)"))
    op.execute(_TESTS_END.format(table="messages", which="test"))
    op.create_index("ix_deliveries_address_message_id", "deliveries", [ascii_lower(sa.column("address")), "message_id"])
    op.drop_index("ix_deliveries_tenant_id_address_message_id", "deliveries")
    op.create_index("ix_messages_status_id", "messages", ["status", "id"])
    op.drop_index("ix_messages_tenant_id_status_id", "messages")
    op.drop_index("ix_messages_tenant_id_id", "messages")
    op.drop_column("messages", "test")
    for table in OWNED:
        op.drop_column(table, "tenant_id")
    for table in ("secrets", "api_keys", "tenants"):
        op.drop_table(table)


def _new_tables() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("max_requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_messages_per_day", sa.Integer(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_index(op.f("ix_tenants_status"), "tenants", ["status"])
    op.bulk_insert(
        tenants, [{"id": DEFAULT_TENANT, "name": "default", "status": "active", "created_at": datetime.now(UTC)}]
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("scopes", "senders", "networks", "guests")),
        sa.Column("max_requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        *(sa.Column(name, UTCDateTime(), nullable=True) for name in ("expires_at", "revoked_at", "last_used_at")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_index("ix_api_keys_tenant_id_id", "api_keys", ["tenant_id", "id"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )


def _count(columns: str, add: str, take: str) -> None:
    """Let the triggers of step 0002 count by these columns."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION.format(columns=columns))
        return
    for name in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER IF EXISTS count_messages_{name}")
    op.execute(f"CREATE TRIGGER count_messages_insert AFTER INSERT ON messages BEGIN {add} END")
    op.execute(f"CREATE TRIGGER count_messages_update AFTER UPDATE OF status ON messages BEGIN {take} {add} END")
    op.execute(f"CREATE TRIGGER count_messages_delete AFTER DELETE ON messages BEGIN {take} END")
