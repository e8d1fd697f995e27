"""Records which API key submitted a message, and counts changes of keys, tenants and SMTP accounts.

Processes that cache these three see by the count that they must read them again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# All columns of a key that a process caches. Not the time of its last use, which is written all the
# time.
_KEY = (
    "tenant_id, prefix, hash, kind, scopes, senders, networks, guests, max_requests_per_minute, expires_at, revoked_at"
)
_TABLES = {"api_keys": f"UPDATE OF {_KEY}", "tenants": "UPDATE", "smtp_accounts": "UPDATE"}

# PostgreSQL inserts rows, which API processes sum up from time to time. If transactions updated one
# row, they would wait for each other.
_FUNCTION = """
CREATE FUNCTION count_key_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO key_changes (n) VALUES (1);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Record both from now on.

    A later step that recreates one of these tables on SQLite must recreate its triggers as well.
    """
    op.add_column("messages", sa.Column("key_id", sa.Uuid(), nullable=True))
    op.create_table(
        "key_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_changes")),
    )
    op.execute("INSERT INTO key_changes (n) VALUES (1)")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        for table, change in _TABLES.items():
            when = f"AFTER INSERT OR {change} OR DELETE ON {table}"
            op.execute(
                f"CREATE TRIGGER count_changes_of_{table} {when} "
                "FOR EACH STATEMENT EXECUTE FUNCTION count_key_changes()"
            )
    else:
        for table, change in _TABLES.items():
            for name, when in (("insert", "INSERT"), ("update", change), ("delete", "DELETE")):
                op.execute(
                    f"CREATE TRIGGER count_changes_of_{table}_{name} AFTER {when} ON {table} "
                    "BEGIN UPDATE key_changes SET n = n + 1; END"
                )


def downgrade() -> None:
    """Drop both."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _TABLES:
        for name in ("",) if postgresql else ("_insert", "_update", "_delete"):
            op.execute(f"DROP TRIGGER count_changes_of_{table}{name}" + (f" ON {table}" if postgresql else ""))
    if postgresql:
        op.execute("DROP FUNCTION count_key_changes()")
    op.drop_table("key_changes")
    # Not in batch mode, which would recreate the table on SQLite, without its triggers.
    op.drop_column("messages", "key_id")
