"""The queue drivers under test, each with ways to damage it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from mailbbgun.database.db import Base, Database
from mailbbgun.queues.base import Queue
from mailbbgun.queues.bunches import BUNCH, fetched
from mailbbgun.queues.embedded import Embedded
from mailbbgun.queues.models import QueuedHint
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from tests.servers import PostgreSQL, RabbitMQ

DELAYS = (1, 3)


@dataclass(frozen=True)
class Driver:
    """A queue and its surroundings.

    ``server`` is the server that keeps the hints, None for SQLite. ``source`` is an expression that
    makes the queue in another process. ``missing`` removes a part of the topology. ``hold_passes``
    lets the time pass after which a dead consumer's hints come again. ``prefetches``: whether
    consumers fetch before they are asked. ``bunch`` is the most hints in a bunch; ``held`` returns
    how many hints of each lane a consumer of that prefetch holds when there is a backlog.
    """

    queue: Queue
    server: PostgreSQL | RabbitMQ | None
    source: str
    missing: Callable[[], object]
    hold_passes: Callable[[], object]
    prefetches: bool = False
    bunch: int = 1
    held: Callable[[int], int] = lambda prefetch: prefetch


def _embedded(url: str, server: PostgreSQL | None) -> Iterator[Driver]:
    database = Database(url)

    def run(statement: str) -> None:
        with database.write() as session:
            session.execute(text(statement))

    Base.metadata.create_all(database.engine, tables=[Base.metadata.tables[QueuedHint.__tablename__]])
    yield Driver(
        queue=Embedded(database, DELAYS),
        server=server,
        source=f"Embedded(Database({url!r}), {DELAYS})",
        missing=lambda: run("DROP TABLE queue_hints"),
        hold_passes=lambda: run("UPDATE queue_hints SET visible_at = '2001-01-01 00:00:00.000000'"),
    )
    database.close()


@pytest.fixture
def embedded_sqlite(tmp_path: Path) -> Iterator[Driver]:
    """Rows of a SQLite file."""
    yield from _embedded(f"sqlite:///{tmp_path}/queue.db", None)


@pytest.fixture
def embedded_postgresql(breakable_postgresql: PostgreSQL) -> Iterator[Driver]:
    """Rows of a PostgreSQL database."""
    name = breakable_postgresql.create_database()
    yield from _embedded(breakable_postgresql.url(name), breakable_postgresql)
    breakable_postgresql.drop_database(name)


@pytest.fixture
def rabbitmq_queue(breakable_rabbitmq: RabbitMQ) -> Iterator[Driver]:
    """A virtual host of RabbitMQ, declared."""
    broker = breakable_rabbitmq
    vhost = broker.vhost()
    url = broker.url(vhost)
    queue = RabbitQueue(url, DELAYS)
    queue.declare()
    yield Driver(
        queue=queue,
        server=broker,
        source=f"RabbitMQ({url!r}, {DELAYS})",
        missing=lambda: broker.ctl("delete_queue", "--vhost", vhost, "mailbbgun.work.normal.v1"),
        hold_passes=lambda: None,
        prefetches=True,
        bunch=BUNCH,
        held=lambda prefetch: fetched(prefetch) * BUNCH,
    )
    queue.close()
    broker.release(vhost)


@pytest.fixture(params=["embedded_sqlite", "embedded_postgresql", "rabbitmq_queue"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Every driver in turn."""
    driver = request.getfixturevalue(request.param)
    assert isinstance(driver, Driver)
    return driver


@pytest.fixture(params=["embedded_postgresql", "rabbitmq_queue"])
def served(request: pytest.FixtureRequest) -> Driver:
    """The drivers that depend on a server."""
    driver = request.getfixturevalue(request.param)
    assert isinstance(driver, Driver)
    return driver


@pytest.fixture
def queue(driver: Driver) -> Queue:
    """The queue of the driver."""
    return driver.queue
