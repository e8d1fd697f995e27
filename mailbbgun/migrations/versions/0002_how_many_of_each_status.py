"""Counts messages by status. Triggers keep the counts up to date."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# PostgreSQL inserts rows of +1 and -1, which workers sum up from time to time. If all commits
# updated one row, they would wait for each other.
_FUNCTION = """
CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO message_counts (status, n) SELECT status, count(*) FROM added GROUP BY status;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO message_counts (status, n) SELECT status, -count(*) FROM gone GROUP BY status;
    ELSE
        INSERT INTO message_counts (status, n)
        SELECT status, sum(change) FROM (SELECT status, 1 FROM added UNION ALL SELECT status, -1 FROM gone) \
AS changes (status, change)
        GROUP BY status HAVING sum(change) <> 0;
    END IF;
    RETURN NULL;
END $$
"""
_TABLES = {
    "INSERT": "NEW TABLE AS added",
    "UPDATE": "NEW TABLE AS added OLD TABLE AS gone",
    "DELETE": "OLD TABLE AS gone",
}
_STATEMENT_TRIGGER = (
    "CREATE TRIGGER count_messages_{name} AFTER {event} ON messages REFERENCING {tables} "
    "FOR EACH STATEMENT EXECUTE FUNCTION count_messages()"
)

# SQLite has one writer at a time, so it updates one row per status in place.
_ADD = "UPDATE message_counts SET n = n + 1 WHERE status = NEW.status;"
_TAKE = "UPDATE message_counts SET n = n - 1 WHERE status = OLD.status;"
_ROW_TRIGGERS = {
    "insert": f"AFTER INSERT ON messages BEGIN {_ADD} END",
    "update": f"AFTER UPDATE OF status ON messages BEGIN {_TAKE} {_ADD} END",
    "delete": f"AFTER DELETE ON messages BEGIN {_TAKE} END",
}


def upgrade() -> None:
    """Count the messages there are, and every change from now on."""
    op.create_table(
        "message_counts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_counts")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
        op.execute("INSERT INTO message_counts (status, n) SELECT status, count(*) FROM messages GROUP BY status")
        op.execute(_FUNCTION)
        for event, tables in _TABLES.items():
            op.execute(_STATEMENT_TRIGGER.format(name=event.lower(), event=event, tables=tables))
    else:
        for status in ("PENDING", "DELIVERED", "ERROR", "CANCELLED"):
            op.execute(
                f"INSERT INTO message_counts (status, n) SELECT '{status}', count(*) "
                f"FROM messages WHERE status = '{status}'"
            )
        for name, what in _ROW_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER count_messages_{name} {what}")


def downgrade() -> None:
    """Drop the counts."""
    for name in _ROW_TRIGGERS:
        op.execute(
            f"DROP TRIGGER count_messages_{name}"
            + (" ON messages" if op.get_bind().dialect.name == "postgresql" else "")
        )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION count_messages()")
    op.drop_table("message_counts")
