"""The migrations make the schema that the models describe, on both databases."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, func, insert, select

from mailbbgun import migrations, schema
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.ids import DEFAULT_TENANT, new_id, new_ids
from mailbbgun.database.db import Database
from mailbbgun.events import log, reading
from mailbbgun.events.kinds import Kind
from mailbbgun.messages import storing
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.settings.settings import Settings
from tests.messages.test_counts import MESSAGE

pytestmark = pytest.mark.both


@pytest.fixture
def database(backend: Settings):
    backend.var.mkdir(parents=True)
    db = Database(backend.DATABASE_URL)
    yield db
    db.close()


def migrate(database: Database, way, revision: str) -> None:
    with database.write() as session:
        config = schema.configuration()
        config.attributes["connection"] = session.connection()
        way(config, revision)


# SQLite does not report the expression of an index. tests/http checks that such an index is used.
@pytest.mark.filterwarnings(
    "ignore:(Skipped unsupported reflection|autogenerate skipping metadata-specified) .*expression-based index"
)
def test_the_migrations_make_the_schema_of_the_models_and_may_be_repeated(database):
    with pytest.raises(ConfigurationError, match=r"run python initdb\.py"):
        migrations.check(database)
    schema.upgrade(database)
    schema.upgrade(database)
    migrations.check(database)
    # PostgreSQL lists the partitions of ``events`` as tables.
    whole = {"include_name": lambda name, kind, _: kind != "table" or not name.startswith("events_")}
    with database.read() as session:
        assert compare_metadata(MigrationContext.configure(session.connection(), opts=whole), schema.METADATA) == []


def test_the_migrations_can_be_undone(database):
    schema.upgrade(database)
    migrate(database, command.downgrade, "base")
    with pytest.raises(ConfigurationError, match="missing"):
        migrations.check(database)


def test_mime_stays_readable_when_its_compression_changes_by_an_upgrade_or_a_downgrade(database):
    mime = {step: (step * 2000).encode() for step in ("before ", "after ", "back ")}

    def add(step):
        with database.write() as session:
            session.execute(
                insert(MESSAGES),
                [MESSAGE | {"id": new_id(), "created_at": datetime.now(UTC), "status": "PENDING", "raw": mime[step]}],
            )

    def methods():
        with database.read() as session:
            found = {bytes(raw) for raw in session.scalars(select(MESSAGES.c.raw))}
            assert found == set(list(mime.values())[: len(found)])
            if database.dialect == "postgresql":
                return session.scalars(select(func.pg_column_compression(MESSAGES.c.raw)).order_by(MESSAGES.c.id)).all()
            return [None] * len(found)

    migrate(database, command.upgrade, "0002")
    add("before ")
    schema.upgrade(database)
    add("after ")
    assert methods() == (["pglz", "lz4"] if database.dialect == "postgresql" else [None] * 2)
    migrate(database, command.downgrade, "0002")
    add("back ")
    assert methods() == (["pglz", "lz4", "pglz"] if database.dialect == "postgresql" else [None] * 3)


def add_row(session, name: str, **given):
    """Insert a row into a table as it is at this step; columns that must have a value get one."""
    table = Table(name, MetaData(), autoload_with=session.connection())
    values = {UUID: new_id, datetime: lambda: datetime.now(UTC), str: lambda: "x", int: int, bool: bool, bytes: bytes}
    for column in table.columns:
        must = not column.nullable and column.server_default is None and not column.primary_key
        if must and column.name not in given:
            kind = "JSON" if "JSON" in str(column.type) else column.type.python_type
            given[column.name] = {} if kind == "JSON" else values[kind]()
    if session.get_bind().dialect.name == "sqlite":  # which keeps a UUID as a text
        given = {key: value.hex if isinstance(value, UUID) else value for key, value in given.items()}
    session.execute(insert(table), [{key: value for key, value in given.items() if key in table.columns}])


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection .*expression-based index")
def test_events_of_every_earlier_step_are_in_the_log_in_their_order_and_survive_a_downgrade(database):
    steps = [one.revision for one in ScriptDirectory.from_config(schema.configuration()).walk_revisions()][::-1]
    stored, batch = [], new_id()
    for step in steps[: steps.index("0019")]:
        migrate(database, command.upgrade, step)
        with database.write() as session:
            message, event = new_id(), new_id()
            add_row(session, "messages", id=message, status="PENDING", batch_id=None)
            add_row(session, "events", id=event, message_id=message, kind="bounced", delivery_id=None)
            stored.append(event)
    with database.write() as session:
        ids = new_ids(2)
        for one in ids:
            add_row(session, "messages", id=one, status="PENDING", batch_id=batch)
        add_row(session, "batches", id=batch, messages=2, first_id=ids[0], last_id=ids[1], tenant_id=DEFAULT_TENANT)
    schema.upgrade(database)
    with database.write() as session:
        new = log.event(DEFAULT_TENANT, None, None, Kind.CIRCUIT_OPENED, {})
        late = log.event(DEFAULT_TENANT, message, None, Kind.BOUNCED, {})
        log.append(session, [new, late])
    with database.read() as session:
        found = [one.id for one in reading.read(session, DEFAULT_TENANT, reading.START, 1000)]
    assert sorted(found[: len(stored) + 2]) == sorted([*stored, *ids])
    assert [one for one in found if one in stored] == stored
    assert [one for one in found if one in ids] == ids
    assert found[-2:] == [new["id"], late["id"]]
    migrate(database, command.downgrade, "0018")
    schema.upgrade(database)
    with database.read() as session:
        kept = [one.id for one in reading.read(session, DEFAULT_TENANT, reading.START, 1000)]
    assert sorted(kept) == sorted({*found} - {new["id"]})


def test_migrations_head_is_the_last_migration():
    assert ScriptDirectory.from_config(schema.configuration()).get_current_head() == migrations.HEAD


def test_accept_stores_every_column_that_must_have_a_value():
    written = {"status", "scheduled", *storing.DELIVERY_COLUMNS, *storing.COUNTERS} - {"next_attempt_at", "reason"}
    assert {column.name for column in DELIVERIES.columns if not column.nullable} == written
