"""The contract of a queue while its server fails, for every driver."""

from collections.abc import Callable
from uuid import UUID

import pytest

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.queues.lanes import HIGH, NORMAL
from tests.contract.conftest import Driver
from tests.contract.hints import SETTLED_TOPOLOGY, all_hints, another_process, consumer_of, ids_of, new_ids, succeeds
from tests.servers import RabbitMQ
from tests.waiting import PATIENCE, bounded, pause, wait_until


def test_confirmed_hints_survive_the_death_of_publisher_and_server(driver: Driver) -> None:
    if isinstance(driver.server, RabbitMQ):
        pause(SETTLED_TOPOLOGY)
    publish = (
        "ids = [uuid.UUID(int=n) for n in range(500)]\n"
        "for start in range(0, 500, 100): queue.publish('bulk', ids[start:start + 100])"
    )
    with another_process(driver, publish):
        if driver.server:
            driver.server.kill9()
    if driver.server:
        driver.server.start()
        wait_until(lambda: succeeds(driver.queue.depth))  # a pooled connection may be broken still
    with consumer_of(driver.queue, prefetch=1000) as consumer:
        assert ids_of(all_hints(consumer, 500)) == [UUID(int=n) for n in range(500)]


def test_an_outage_raises_unavailable_in_time_and_leaves_no_trace_when_it_is_over(served: Driver) -> None:
    queue, server = served.queue, served.server
    assert server is not None
    if isinstance(server, RabbitMQ):
        pause(SETTLED_TOPOLOGY)
    ids = new_ids(3)
    queue.publish(HIGH, ids[:1])
    consumer = queue.consumer(10)
    [held] = consumer.take(1, PATIENCE)
    server.stop()
    actions: list[Callable[[], object]] = [
        lambda: queue.publish(NORMAL, ids[1:2]),
        lambda: queue.publish(NORMAL, ids[1:2]),
        lambda: consumer.take(1, PATIENCE),
        lambda: consumer.settle([held]),
        lambda: queue.consumer(10).take(1, 1),
        queue.depth,
        queue.check,
    ]
    for action in actions:
        with bounded("a call during an outage"), pytest.raises(QueueUnavailable):
            action()
    consumer.close()
    server.start()
    wait_until(lambda: succeeds(lambda: queue.publish(NORMAL, ids[2:])))
    served.hold_passes()
    with consumer_of(queue) as consumer:
        came: set[UUID] = set()  # ids[1] too, if it was stored although its publish failed
        while not {ids[0], ids[2]} <= came:
            came |= {hint.message_id for hint in consumer.take(3, PATIENCE)}
