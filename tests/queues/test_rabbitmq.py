"""Failures that only RabbitMQ has, on a real broker."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from mailbbgun.core.errors import ConfigurationError, QueueMisconfigured, QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.base import Consumer, Hint
from mailbbgun.queues.bunches import BUNCH, bodies_of, fetched, ids_of
from mailbbgun.queues.lanes import BULK, HIGH, LANES, NORMAL
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from mailbbgun.queues.topology import WORK, delay_queue, work_queue
from tests.servers import RabbitMQ
from tests.servers.process import free_port
from tests.waiting import bounded, wait_until


@pytest.fixture
def broker(breakable_rabbitmq: RabbitMQ) -> RabbitMQ:
    """A broker that a test may damage."""
    return breakable_rabbitmq


@pytest.fixture
def vhost(broker: RabbitMQ) -> Iterator[str]:
    """A virtual host of its own."""
    name = broker.vhost()
    yield name
    broker.release(name)


@pytest.fixture
def url(broker: RabbitMQ, vhost: str) -> str:
    """Its URL."""
    return broker.url(vhost)


@pytest.fixture
def queue(url: str) -> Iterator[RabbitQueue]:
    """A declared queue."""
    queue = RabbitQueue(url, (1, 600))
    queue.declare()
    yield queue
    queue.close()


@contextmanager
def _raw(url: str) -> Iterator[BlockingChannel]:
    """Yield a channel for things that our code never does."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def _publishes_again(queue: RabbitQueue) -> None:
    def published() -> bool:
        try:
            queue.publish(NORMAL, [new_id()])
        except QueueUnavailable:
            return False
        return True

    wait_until(published, "a publish that goes through again", look=0.1)


def _waits(queue: RabbitQueue, lane: str, depth: int) -> None:
    """Wait until a lane is that deep: acks and a closed consumer's hints arrive a moment later."""
    wait_until(lambda: queue.depth()[lane] == depth, f"a depth of {depth}", look=0.05)


def _all(consumer: Consumer, count: int, seconds: float = 1) -> list[Hint]:
    """Take until ``count`` hints came, or none for ``seconds``."""
    hints: list[Hint] = []
    while len(hints) < count and (more := consumer.take(count - len(hints), seconds)):
        hints += more
    return hints


def _of(hints: list[Hint]) -> list[UUID]:
    return [hint.message_id for hint in hints]


ONE, TWO = UUID(int=1), UUID(int=2**128 - 1)
A, B = str(ONE).encode(), str(TWO).encode()


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (A, [ONE]),  # the only form before there were bunches
        (A + b"\n" + B, [ONE, TWO]),
        (B + b"\n" + A + b"\n" + A, [TWO, ONE, ONE]),
        (b"\n".join([A] * BUNCH), [ONE] * BUNCH),
        (b"\n".join([A] * (BUNCH + 1)), []),
        (b"", []),
        (b"\n", []),
        (A + b"\n", []),
        (b"\n" + A, []),
        (A + b"\n\n" + B, []),
        (A + b"\r\n" + B, []),
        (A + b" " + B, []),
        (A + B, []),
        (A + b"\n" + B.upper(), []),
        (A + b"\n{" + B + b"}", []),
        (A + b"\nurn:uuid:" + B, []),
        (A + b"\n" + B.replace(b"-", b""), []),
        (A + b"\n" + B[:-1], []),
        (A + b"\n" + B[:-1] + b"\n", []),
        (A + b"\n" + B[:-1] + b"g", []),
        (A + b"\n" + B[:-1] + "٣".encode(), []),  # a digit in another alphabet
        (A + b"\n" + b"\xff" * 36, []),
        (A + b"\0", []),
        (b"\n".join([A] * 100_000), []),
    ],
)
def test_a_body_is_ids_in_lines_or_junk_as_a_whole(body: bytes, ids: list[UUID]) -> None:
    assert ids_of(body) == ids


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (8, [8]),
        (9, [8, 1]),
        (16, [8, 8]),
        (17, [9, 8]),
        (31, [16, 15]),
        (40, [16, 16, 8]),
        (500, [16] * 31 + [4]),
    ],
)
def test_ids_are_cut_into_bunches_in_their_order_and_more_than_half_a_bunch_in_two(
    count: int, sizes: list[int]
) -> None:
    ids = [new_id() for _ in range(count)]
    bodies = bodies_of(ids)
    assert [len(ids_of(body)) for body in bodies] == sizes
    assert [one for body in bodies for one in ids_of(body)] == ids


@pytest.mark.parametrize(("prefetch", "bunches"), [(1, 8), (64, 8), (80, 10), (160, 20), (800, 100), (100_000, 2000)])
def test_what_is_fetched_is_counted_in_bunches(prefetch: int, bunches: int) -> None:
    assert fetched(prefetch) == bunches


@pytest.mark.parametrize("count", [1, 40])
def test_a_hint_is_persistent_and_holds_nothing_but_ids(queue: RabbitQueue, url: str, count: int) -> None:
    ids = [new_id() for _ in range(count)]
    queue.publish(NORMAL, ids)
    with _raw(url) as channel:
        for first in range(0, count, BUNCH):
            _, properties, body = channel.basic_get(work_queue(NORMAL))
            assert body == "\n".join(map(str, ids[first : first + BUNCH])).encode()
            assert properties is not None
            assert properties.delivery_mode == 2
            assert set(properties.headers or ()) <= {"x-delivery-count"}  # the broker's own
        assert channel.basic_get(work_queue(NORMAL))[2] is None


@pytest.mark.parametrize("delay", [0, 1])
def test_forty_hints_in_three_bunches_arrive_once_each_and_in_order(queue: RabbitQueue, delay: int) -> None:
    ids = [new_id() for _ in range(40)]
    queue.publish(NORMAL, ids, delay)
    consumer = queue.consumer(100)
    hints = _all(consumer, 41, 1.5)
    assert _of(hints) == ids
    for start in range(0, 40, 7):
        consumer.settle(hints[start : start + 7])
    consumer.close()
    _waits(queue, NORMAL, 0)


def test_a_bunch_is_acked_when_all_its_hints_are_settled_and_else_comes_again_whole(queue: RabbitQueue) -> None:
    ids = [new_id() for _ in range(3 * BUNCH)]
    queue.publish(NORMAL, ids)
    consumer = queue.consumer(100)
    hints = _all(consumer, len(ids))
    second, third = hints[BUNCH : 2 * BUNCH], hints[2 * BUNCH :]
    consumer.settle(third)
    consumer.settle(second[:7])
    for _ in range(BUNCH):  # settled as often as there are hints
        consumer.settle(second[7:8])
    consumer.settle(hints[1:BUNCH])
    consumer.settle(hints[:1])
    consumer.close()
    _waits(queue, NORMAL, BUNCH)
    consumer = queue.consumer(100)
    again = _all(consumer, len(ids))
    assert _of(again) == _of(second)
    consumer.settle(hints)  # hints of another connection mean nothing here
    consumer.settle([*reversed(again[1:]), again[0]])
    consumer.close()
    _waits(queue, NORMAL, 0)


def test_bunches_settled_crosswise_are_acked_each_for_itself(queue: RabbitQueue) -> None:
    ids = [new_id() for _ in range(5 * BUNCH)]
    queue.publish(NORMAL, ids)
    consumer = queue.consumer(100)
    hints = _all(consumer, len(ids))
    crosswise = [hint for place in range(BUNCH) for hint in hints[place::BUNCH]]
    consumer.settle(crosswise[:-3])  # the last hint of each of the last three bunches is held
    consumer.settle(crosswise[-2:-1])
    consumer.close()
    consumer = queue.consumer(100)
    assert _of(_all(consumer, len(ids))) == ids[2 * BUNCH : 3 * BUNCH] + ids[4 * BUNCH :]
    consumer.close()


def test_many_bodies_of_one_id_as_they_were_before_bunches_all_come_though_few_are_fetched_at_once(
    queue: RabbitQueue, url: str
) -> None:
    ids = [new_id() for _ in range(100)]
    with _raw(url) as channel:
        for one in ids:
            channel.basic_publish(WORK, NORMAL, str(one).encode())
    later = [new_id() for _ in range(20)]
    queue.publish(NORMAL, later)
    consumer = queue.consumer(80)
    first = _all(consumer, 200, 0.5)
    assert _of(first) == ids[: fetched(80)]
    taken = list(first)
    consumer.settle(first)
    while len(taken) < len(ids + later) and (more := consumer.take(200, 10)):
        consumer.settle(more)
        taken += more
    consumer.close()
    assert _of(taken) == ids + later
    _waits(queue, NORMAL, 0)


@pytest.mark.parametrize("delay", [0, 600])
def test_what_has_no_queue_is_not_taken_for_published(queue: RabbitQueue, url: str, delay: int) -> None:
    queue.publish(HIGH, [new_id()], delay)
    with _raw(url) as channel:
        if delay:
            channel.queue_unbind(delay_queue(delay), delay_queue(delay), "")
        else:
            channel.queue_unbind(work_queue(HIGH), WORK, HIGH)
    for _ in range(3):
        with pytest.raises(QueueUnavailable, match="no queue"):
            queue.publish(HIGH, [new_id(), new_id()], delay)
    queue.publish(NORMAL, [new_id()])  # at once: the other lanes and the connection are unharmed
    queue.declare()
    queue.publish(HIGH, [new_id()], delay)


def _publish_until_refused(queue: RabbitQueue) -> None:
    for _ in range(20):  # a full quorum queue accepts some more
        queue.publish(NORMAL, [new_id() for _ in range(10 * BUNCH)])


def test_after_a_refusal_the_next_is_published_on_another_connection_and_what_is_in_flight_is_not_harmed(
    queue: RabbitQueue, broker: RabbitMQ, vhost: str
) -> None:
    def connections() -> set[str]:
        return set(broker.ctl("list_connections", "pid", "vhost").splitlines())

    queue.publish(HIGH, [new_id()])
    broker.ctl(
        "set_policy", "--vhost", vhost, "full", f"^{work_queue(NORMAL)}$", '{"max-length": 1}', "--apply-to", "queues"
    )
    before = connections()
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(queue.publish, HIGH, [new_id() for _ in range(500)]) for _ in range(4)]
        with pytest.raises(QueueUnavailable, match="refused"):
            _publish_until_refused(queue)
    # These were not sent, else depth() below is wrong.
    refused = [one.exception() for one in others if one.exception()]
    queue.publish(HIGH, [new_id()])
    after = connections()
    assert len(after) == len(before)
    assert after != before
    assert queue.depth()[HIGH] == BUNCH * (2 + len(bodies_of([new_id()] * 500)) * (4 - len(refused)))


def test_a_missing_exchange_is_not_taken_for_published(queue: RabbitQueue, url: str) -> None:
    with _raw(url) as channel:
        channel.exchange_delete(WORK)
    with pytest.raises(QueueUnavailable, match=WORK):
        queue.publish(HIGH, [new_id()])
    with pytest.raises(QueueMisconfigured, match=f"{WORK} is missing"):
        queue.check()


@pytest.mark.parametrize("name", [work_queue(BULK), delay_queue(600)])
def test_check_names_a_queue_that_is_missing(queue: RabbitQueue, url: str, name: str) -> None:
    with _raw(url) as channel:
        channel.queue_delete(name)
    with pytest.raises(QueueMisconfigured, match=f"{name} is missing"):
        queue.check()
    queue.declare()
    queue.check()


def test_declare_names_a_queue_that_has_other_arguments(queue: RabbitQueue, url: str) -> None:
    with _raw(url) as channel:
        channel.queue_delete(delay_queue(600))
        channel.queue_declare(delay_queue(600), durable=True)
    with pytest.raises(QueueMisconfigured, match=f"{delay_queue(600)} was declared with other arguments"):
        queue.declare()


def test_junk_is_acked_logged_safely_and_skipped(
    queue: RabbitQueue, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = new_id()
    shout, braces = str(one).upper().encode(), b"{%s}" % str(one).encode()
    half = b"\n".join([str(new_id()).encode(), shout])
    many = b"\n".join([str(new_id()).encode()] * (BUNCH + 1))
    junk = [
        b"",
        b"junk\r\n2026 forged log line",
        b"\xff" * 40,
        b"0" * 100_000,
        shout,
        braces,
        os.urandom(36),
        half,
        many,
    ]
    with _raw(url) as channel:
        for body in junk:
            channel.basic_publish(WORK, NORMAL, body)
    queue.publish(NORMAL, [one])
    with caplog.at_level(logging.WARNING, "mailbbgun"):
        consumer = queue.consumer(10)
        [hint] = consumer.take(10, 5)
        consumer.settle([hint])
        consumer.close()
    assert hint.message_id == one
    assert len(caplog.records) == len(junk)
    assert all("\n" not in record.body and "\r" not in record.body for record in caplog.records)
    _waits(queue, NORMAL, 0)


def test_under_a_memory_alarm_publishing_fails_at_once_and_works_again_after_it(
    queue: RabbitQueue, broker: RabbitMQ
) -> None:
    queue.publish(NORMAL, [new_id()])
    consumer = queue.consumer(10)
    broker.memory_alarm(on=True)
    try:
        for _ in range(3):
            with bounded("a publish under an alarm"), pytest.raises(QueueUnavailable):
                queue.publish(NORMAL, [new_id()])
        assert queue.depth()  # reading still works
        consumer.settle(consumer.take(10, 5))
        with bounded("closing under an alarm"):
            queue.close()
            consumer.close()
    finally:
        broker.memory_alarm(on=False)
    _publishes_again(queue)


def test_a_broker_that_is_frozen_holds_nobody_longer_than_the_deadline(queue: RabbitQueue, broker: RabbitMQ) -> None:
    queue.publish(NORMAL, [new_id()])
    consumer = queue.consumer(10)
    broker.pause()
    failures: list[QueueUnavailable] = []
    actions: list[Callable[[], object]] = [
        lambda: queue.publish(HIGH, [new_id()]),
        lambda: queue.publish(BULK, [new_id()], 600),
        lambda: queue.consumer(1),
        queue.depth,
        queue.check,
        queue.declare,
    ]

    def fail(action: Callable[[], object]) -> None:
        with bounded("a call to a frozen broker"), pytest.raises(QueueUnavailable) as caught:
            action()
        failures.append(caught.value)

    try:
        threads = [threading.Thread(target=fail, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with bounded("closing a consumer at a frozen broker"):
            consumer.close()
        with bounded("closing a queue at a frozen broker"):
            queue.close()
    finally:
        broker.resume()
    assert len(failures) == len(threads)
    _publishes_again(queue)


def test_a_queue_without_a_leader_fails_its_own_hints_only(queue: RabbitQueue, broker: RabbitMQ, vhost: str) -> None:
    server = f'{{list_to_atom("{vhost}_{work_queue(BULK)}"), node()}}'
    queue.publish(BULK, [new_id()])
    broker.ctl("eval", f"ra:stop_server(quorum_queues, {server}).")
    stop = threading.Event()
    others: list[UUID] = []

    def publish_others() -> None:
        while not stop.wait(0.05):
            one = new_id()
            queue.publish(HIGH, [one])
            others.append(one)

    neighbour = threading.Thread(target=publish_others)
    neighbour.start()
    with bounded("a publish to a queue without a leader"), pytest.raises(QueueUnavailable):
        queue.publish(BULK, [new_id()])
    stop.set()
    neighbour.join()
    assert len(others) > 1, "others waited as long"
    broker.ctl("eval", f"ra:restart_server(quorum_queues, {server}).")


def test_a_deleted_queue_ends_its_consumer(queue: RabbitQueue, url: str) -> None:
    consumer = queue.consumer(10)
    with _raw(url) as channel:
        channel.queue_delete(work_queue(BULK))
    with pytest.raises(QueueUnavailable):
        consumer.take(1, 10)
    consumer.close()
    with pytest.raises(QueueUnavailable, match=work_queue(BULK)):
        queue.consumer(10)


def test_a_connection_closed_by_the_broker_is_told_and_replaced(queue: RabbitQueue, broker: RabbitMQ) -> None:
    one = new_id()
    queue.publish(NORMAL, [one])
    consumer = queue.consumer(10)
    [hint] = consumer.take(1, 5)
    broker.ctl("close_all_connections", "--global", "maintenance")
    with pytest.raises(QueueUnavailable):
        consumer.take(1, 10)
    with pytest.raises(QueueUnavailable):
        consumer.settle([hint])
    consumer.close()
    again = queue.consumer(10)
    assert [hint.message_id for hint in again.take(1, 5)] == [one]
    again.close()
    _publishes_again(queue)


def test_after_a_fork_each_process_has_its_own_connection(queue: RabbitQueue) -> None:
    parents, childs = [new_id() for _ in range(50)], [new_id() for _ in range(50)]
    queue.publish(NORMAL, parents[:25])
    child = os.fork()
    if not child:
        try:
            queue.publish(NORMAL, childs)
            queue.close()
            os._exit(0)
        finally:
            os._exit(1)
    queue.publish(NORMAL, parents[25:])
    assert os.waitpid(child, 0)[1] == 0
    queue.publish(NORMAL, [])
    consumer = queue.consumer(200)
    taken: set[object] = set()
    while hints := consumer.take(100, 1):
        taken |= {hint.message_id for hint in hints}
    consumer.close()
    assert taken == set(parents) | set(childs)


def test_the_hosts_of_a_cluster_are_tried_in_turn(broker: RabbitMQ, vhost: str) -> None:
    dead = free_port()
    login, _, rest = broker.url(vhost).partition("@")
    queue = RabbitQueue(f"{login}@127.0.0.1:{dead},{rest}", (1,))
    queue.declare()
    queue.publish(NORMAL, [new_id()])
    consumer = queue.consumer(1)
    assert len(consumer.take(1, 5)) == 1
    consumer.close()
    queue.close()


def test_while_waiting_to_try_again_publishing_fails_at_once() -> None:
    queue = RabbitQueue(f"amqp://127.0.0.1:{free_port()}", (1,))
    for _ in range(8):
        with pytest.raises(QueueUnavailable):
            queue.publish(NORMAL, [new_id()])
    with pytest.raises(QueueUnavailable, match="next try"):
        queue.publish(NORMAL, [new_id()])
    queue.close()


def test_a_host_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = RabbitQueue(f"amqp://127.0.0.1:{silent.getsockname()[1]}", (1,))
        with bounded("a publish to a server that is silent"), pytest.raises(QueueUnavailable):
            queue.publish(NORMAL, [new_id()])
        queue.close()


def test_a_wrong_password_is_said_to_be_one(broker: RabbitMQ, vhost: str) -> None:
    login, _, rest = broker.url(vhost).partition("@")
    queue = RabbitQueue(f"{login}wrong@{rest}", (1,))
    for action in (queue.check, queue.depth, lambda: queue.consumer(1), lambda: queue.publish(NORMAL, [new_id()])):
        with pytest.raises(QueueUnavailable, match="user, password or virtual host") as caught:
            action()
        assert "wrong@" not in str(caught.value)
        assert caught.value.__cause__ is not None


def test_a_virtual_host_that_does_not_exist_is_said_not_to(broker: RabbitMQ) -> None:
    queue = RabbitQueue(broker.url("nowhere"), (1,))
    for action in (queue.check, lambda: queue.publish(NORMAL, [new_id()])):
        with pytest.raises(QueueUnavailable, match="user, password or virtual host"):
            action()


@pytest.mark.parametrize("url", ["amqp://host:port/", "amqp://a,b:x/", "amqp://h:1/?heartbeat=often"])
def test_a_malformed_url_stops_start_up(url: str) -> None:
    with pytest.raises(ConfigurationError, match="QUEUE_URL"):
        RabbitQueue(url, (1,))


def test_a_wiped_broker_works_again_once_declared(queue: RabbitQueue, broker: RabbitMQ) -> None:
    queue.publish(NORMAL, [new_id() for _ in range(10)])
    broker.wipe()
    with pytest.raises(QueueMisconfigured):
        queue.check()
    queue.declare()
    _publishes_again(queue)
    assert set(queue.depth()) == set(LANES)
