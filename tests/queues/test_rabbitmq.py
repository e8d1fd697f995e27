"""Failures that only RabbitMQ has, on a real broker."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from mailbbgun.core.errors import ConfigurationError, QueueMisconfigured, QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.bunches import BUNCH, bodies_of
from mailbbgun.queues.lanes import BULK, HIGH, LANES, NORMAL
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from mailbbgun.queues.topology import WORK, delay_queue, work_queue
from tests.queues.brokers import publishes_again, raw_channel, wait_for_depth
from tests.servers import RabbitMQ
from tests.servers.process import free_port
from tests.waiting import PATIENCE, bounded


@pytest.mark.parametrize("delay", [0, 600])
def test_what_has_no_queue_is_not_taken_for_published(queue: RabbitQueue, url: str, delay: int) -> None:
    queue.publish(HIGH, [new_id()], delay)
    with raw_channel(url) as channel:
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
    with raw_channel(url) as channel:
        channel.exchange_delete(WORK)
    with pytest.raises(QueueUnavailable, match=WORK):
        queue.publish(HIGH, [new_id()])
    with pytest.raises(QueueMisconfigured, match=f"{WORK} is missing"):
        queue.check()


@pytest.mark.parametrize("name", [work_queue(BULK), delay_queue(600)])
def test_check_names_a_queue_that_is_missing(queue: RabbitQueue, url: str, name: str) -> None:
    with raw_channel(url) as channel:
        channel.queue_delete(name)
    with pytest.raises(QueueMisconfigured, match=f"{name} is missing"):
        queue.check()
    queue.declare()
    queue.check()


def test_declare_names_a_queue_that_has_other_arguments(queue: RabbitQueue, url: str) -> None:
    with raw_channel(url) as channel:
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
    with raw_channel(url) as channel:
        for body in junk:
            channel.basic_publish(WORK, NORMAL, body)
    queue.publish(NORMAL, [one])
    with caplog.at_level(logging.WARNING, "mailbbgun"):
        consumer = queue.consumer(10)
        [hint] = consumer.take(10, PATIENCE)
        consumer.settle([hint])
        consumer.close()
    assert hint.message_id == one
    assert len(caplog.records) == len(junk)
    assert all("\n" not in record.body and "\r" not in record.body for record in caplog.records)
    wait_for_depth(queue, NORMAL, 0)


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
        consumer.settle(consumer.take(10, PATIENCE))
        with bounded("closing under an alarm"):
            queue.close()
            consumer.close()
    finally:
        broker.memory_alarm(on=False)
    publishes_again(queue)


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
    publishes_again(queue)


@pytest.mark.long
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
    with raw_channel(url) as channel:
        channel.queue_delete(work_queue(BULK))
    with pytest.raises(QueueUnavailable):
        consumer.take(1, PATIENCE)
    consumer.close()
    with pytest.raises(QueueUnavailable, match=work_queue(BULK)):
        queue.consumer(10)


def test_a_connection_closed_by_the_broker_is_told_and_replaced(queue: RabbitQueue, broker: RabbitMQ) -> None:
    one = new_id()
    queue.publish(NORMAL, [one])
    consumer = queue.consumer(10)
    [hint] = consumer.take(1, PATIENCE)
    broker.ctl("close_all_connections", "--global", "maintenance")
    with pytest.raises(QueueUnavailable):
        consumer.take(1, PATIENCE)
    with pytest.raises(QueueUnavailable):
        consumer.settle([hint])
    consumer.close()
    again = queue.consumer(10)
    assert [hint.message_id for hint in again.take(1, PATIENCE)] == [one]
    again.close()
    publishes_again(queue)


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
    while len(taken) < 100 and (hints := consumer.take(100, PATIENCE)):
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
    assert len(consumer.take(1, PATIENCE)) == 1
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


@pytest.mark.long
def test_a_wiped_broker_works_again_once_declared(queue: RabbitQueue, broker: RabbitMQ) -> None:
    queue.publish(NORMAL, [new_id() for _ in range(10)])
    broker.wipe()
    with pytest.raises(QueueMisconfigured):
        queue.check()
    queue.declare()
    publishes_again(queue)
    assert set(queue.depth()) == set(LANES)
