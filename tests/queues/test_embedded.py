"""The embedded queue alone: its rows, and the plans of its statements."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Database
from mailbbgun.queues.embedded import _COUNTS, _TAKE, HOLD_SECONDS, Embedded
from mailbbgun.queues.lanes import BULK, LANES, NORMAL
from mailbbgun.queues.models import QueuedHint
from tests.servers import PostgreSQL


def _tables(database: Database) -> Database:
    Base.metadata.create_all(database.engine, tables=[Base.metadata.tables[QueuedHint.__tablename__]])
    return database


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A SQLite file with the queue's table."""
    database = _tables(Database(f"sqlite:///{tmp_path}/queue.db"))
    yield database
    database.close()


@pytest.fixture
def postgres(postgresql: PostgreSQL) -> Iterator[Database]:
    """A PostgreSQL database with the queue's table."""
    name = postgresql.create_database()
    database = _tables(Database(postgresql.url(name)))
    yield database
    database.close()
    postgresql.drop_database(name)


@pytest.mark.parametrize("statement", [_COUNTS, _TAKE], ids=["counting", "taking"])
@pytest.mark.parametrize("which", ["sqlite", "postgres"])
def test_delayed_hints_are_not_walked_past(request: pytest.FixtureRequest, which: str, statement: object) -> None:
    database: Database = request.getfixturevalue(which)
    queue = Embedded(database, (600,))
    for lane in LANES:
        queue.publish(lane, [new_id() for _ in range(3000)], 600)
    compiled = statement.compile(database.engine)  # type: ignore[attr-defined]  # a select or an update
    values = compiled.construct_params(dict.fromkeys(LANES, 10))
    explain = "EXPLAIN QUERY PLAN" if which == "sqlite" else "EXPLAIN"
    with database.write() as session:
        session.execute(text("ANALYZE"))
        given = tuple(values[name] for name in compiled.positiontup) if compiled.positional else values
        plan = " ".join(str(row) for row in session.connection().exec_driver_sql(f"{explain} {compiled}", given))
    bound = "lane=? AND visible_at<?" if which == "sqlite" else "(visible_at <= statement_timestamp"
    assert plan.count(bound) >= len(LANES), plan


def test_settling_leaves_no_row_and_a_held_hint_moves_on(sqlite: Database) -> None:
    queue = Embedded(sqlite, ())
    queue.publish(NORMAL, [new_id() for _ in range(3)])
    consumer = queue.consumer(10)
    first, *_ = consumer.take(3, 1)
    consumer.settle([first])
    with sqlite.read() as session:
        seconds = session.scalars(
            text("SELECT (julianday(visible_at) - julianday('now')) * 86400 FROM queue_hints")
        ).all()
    assert len(seconds) == 2
    assert all(HOLD_SECONDS - 5 < one <= HOLD_SECONDS + 0.1 for one in seconds)


def test_hints_of_one_lane_come_in_the_order_they_were_published(sqlite: Database) -> None:
    queue = Embedded(sqlite, ())
    ids = [new_id() for _ in range(30)]
    for one in ids:
        queue.publish(BULK, [one])
    consumer = queue.consumer(100)
    assert [hint.message_id for _ in range(3) for hint in consumer.take(10, 1)] == ids
