"""By which key a message came; and how often keys, tenants and SMTP accounts have changed, for those who keep them in memory."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# All that a process keeps of a key; not when it was used last, which is written all the time.
_KEY = (
    "tenant_id, prefix, hash, kind, scopes, senders, networks, guests, max_requests_per_minute, expires_at, revoked_at"
)
_TABLES = {"api_keys": f"UPDATE OF {_KEY}", "tenants": "UPDATE", "smtp_accounts": "UPDATE"}

# PostgreSQL adds rows, which API processes sum up now and then: to change one row, transactions would have to wait for each other.
_FUNCTION = """
CREATE FUNCTION count_key_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO key_changes (n) VALUES (1);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Remember and count them from now on. A step that makes one of these tables anew on SQLite must make its triggers anew as well."""
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
                f"CREATE TRIGGER count_changes_of_{table} {when} FOR EACH STATEMENT EXECUTE FUNCTION count_key_changes()"
            )
    else:
        for table, change in _TABLES.items():
            for name, when in (("insert", "INSERT"), ("update", change), ("delete", "DELETE")):
                op.execute(
                    f"CREATE TRIGGER count_changes_of_{table}_{name} AFTER {when} ON {table} BEGIN UPDATE key_changes SET n = n + 1; END"
                )


def downgrade() -> None:
    """Forget them."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _TABLES:
        for name in ("",) if postgresql else ("_insert", "_update", "_delete"):
            op.execute(f"DROP TRIGGER count_changes_of_{table}{name}" + (f" ON {table}" if postgresql else ""))
    if postgresql:
        op.execute("DROP FUNCTION count_key_changes()")
    op.drop_table("key_changes")
    op.drop_column(
        "messages", "key_id"
    )  # not in a batch, which on SQLite would make the table anew, without its triggers
