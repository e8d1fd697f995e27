"""Missing parts of RabbitMQ's topology are made again by a user that may, on a real broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.lanes import BULK, HIGH, LANES, NORMAL
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from mailbbgun.queues.topology import WORK, delay_queue, work_queue
from tests.servers import RabbitMQ
from tests.waiting import PATIENCE

DELAYS = (1, 600)
EVERYTHING = [WORK, *map(delay_queue, DELAYS), *map(work_queue, LANES)]


@pytest.fixture
def url(breakable_rabbitmq: RabbitMQ) -> Iterator[str]:
    """The URL of a virtual host of its own."""
    name = breakable_rabbitmq.vhost()
    yield breakable_rabbitmq.url(name)
    breakable_rabbitmq.release(name)


@pytest.fixture
def queue(url: str) -> Iterator[RabbitQueue]:
    """A declared queue."""
    one = RabbitQueue(url, DELAYS)
    one.declare()
    yield one
    one.close()


@contextmanager
def _raw(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection.channel()
    connection.close()


def _delete_everything(url: str) -> None:
    with _raw(url) as channel:
        for name in (*map(work_queue, LANES), *map(delay_queue, DELAYS)):
            channel.queue_delete(name)
        for name in (WORK, *map(delay_queue, DELAYS)):
            channel.exchange_delete(name)


def test_what_is_whole_is_left_as_it_is(queue: RabbitQueue) -> None:
    queue.publish(NORMAL, [new_id()])
    assert list(queue.mend()) == []
    assert queue.depth()[NORMAL] > 0


def test_an_empty_broker_is_whole_again_and_hints_travel_on_each_lane_and_delay(queue: RabbitQueue, url: str) -> None:
    _delete_everything(url)
    assert sorted(queue.mend()) == sorted(EVERYTHING)
    queue.check()
    for lane in LANES:
        queue.publish(lane, [new_id()])
        queue.publish(lane, [new_id()], delay=1)
    consumer = queue.consumer(10)
    taken = []
    while len(taken) < 2 * len(LANES) and (more := consumer.take(10, PATIENCE)):
        taken += more
    assert sorted(hint.lane for hint in taken) == sorted([*LANES, *LANES])
    consumer.close()


@pytest.mark.parametrize("name", [work_queue(BULK), delay_queue(600)])
def test_only_the_queue_that_is_missing_is_made(queue: RabbitQueue, url: str, name: str) -> None:
    queue.publish(NORMAL, [new_id()])
    with _raw(url) as channel:
        channel.queue_delete(name)
    assert list(queue.mend()) == [name]
    queue.check()
    assert queue.depth()[NORMAL] > 0
    queue.publish(BULK, [new_id()])
    queue.publish(BULK, [new_id()], delay=600)


def test_an_exchange_that_is_made_again_is_bound_to_its_queues(queue: RabbitQueue, url: str) -> None:
    with _raw(url) as channel:
        channel.exchange_delete(WORK)
    assert list(queue.mend()) == [WORK]
    for _ in range(20):  # the connection that met the missing exchange is closed; a new one is tried soon
        try:
            queue.publish(HIGH, [new_id()])
        except QueueUnavailable:
            continue
        break
    assert queue.depth()[HIGH] > 0


@pytest.mark.parametrize("delay", [0, 600])
def test_a_binding_that_is_missing_is_made_once_publishing_noticed(queue: RabbitQueue, url: str, delay: int) -> None:
    with _raw(url) as channel:
        if delay:
            channel.queue_unbind(delay_queue(delay), delay_queue(delay), "")
        else:
            channel.queue_unbind(work_queue(HIGH), WORK, HIGH)
    with pytest.raises(QueueUnavailable, match="no queue"):
        queue.publish(HIGH, [new_id()], delay)
    assert list(queue.mend()) == []
    queue.publish(HIGH, [new_id()], delay)


def test_a_user_that_may_not_declare_is_told_what_to_run(
    queue: RabbitQueue, url: str, breakable_rabbitmq: RabbitMQ
) -> None:
    vhost = url.rpartition("/")[2]
    breakable_rabbitmq.ctl("add_user", "guarded", "secret")
    try:
        breakable_rabbitmq.ctl("set_permissions", "-p", vhost, "guarded", "^$", ".*", ".*")
        guarded = RabbitQueue(url.replace("tests:tests@", "guarded:secret@"), DELAYS)
        assert list(guarded.mend()) == []
        with _raw(url) as channel:
            channel.queue_delete(work_queue(BULK))
        for _ in range(2):
            with pytest.raises(QueueMisconfigured) as caught:
                guarded.mend()
            assert f"{work_queue(BULK)} is missing, and our user may not make it: run initdb.py" in str(caught.value)
        queue.declare()
        assert list(guarded.mend()) == []
        guarded.close()
    finally:
        breakable_rabbitmq.ctl("delete_user", "guarded")


@pytest.mark.parametrize("wrong", ["password", "virtual host"])
def test_a_refused_user_is_reported_as_refused_and_an_absent_broker_is_not(
    queue: RabbitQueue, url: str, wrong: str
) -> None:
    told = url.replace("tests:tests@", "tests:wrong@") if wrong == "password" else f"{url.rpartition('/')[0]}/nowhere"
    refused = RabbitQueue(told, DELAYS)
    for action in (refused.mend, refused.check):
        with pytest.raises(
            QueueUnavailable, match="QUEUE_URL: RabbitMQ refuses our user, password or virtual host"
        ) as caught:
            action()
        assert caught.value.refused
    away = RabbitQueue("amqp://tests:tests@127.0.0.1:1/", DELAYS)
    with pytest.raises(QueueUnavailable) as caught:
        away.check()
    assert not caught.value.refused
