"""RabbitMQ away, out of memory, wiped, or without queues: mail is accepted as fast as ever.

It goes out once the broker is back.
"""

import signal
import time
from statistics import median

import pika
import pytest

from mailbbgun.queues.topology import WORK, WORK_ARGUMENTS, work_queue
from tests.chaos.check import check
from tests.chaos.load import Load, addresses, p99
from tests.flow.service import Service, until

POSTS = 200


def measured(load: Load, name: str) -> float:
    """Send some messages; return the median of the answers' times in seconds."""
    load.seconds.clear()
    load.send_all(addresses(name, POSTS), connections=2)
    middle, worst = median(load.seconds), max(load.seconds)
    print(
        f"POST, {name}: median {middle * 1000:.0f} ms, "
        f"p99 {p99(load.seconds) * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
    )
    return middle


@pytest.mark.long
def test_posts_are_answered_as_fast_without_a_broker_or_with_one_out_of_memory_and_go_out_when_it_is_back(
    real_settings, rabbitmq
):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        load = Load(service)
        load.send_all(addresses("warm", 50))
        before = measured(load, "before")
        rabbitmq.stop()
        during = measured(load, "stopped")
        rabbitmq.start()
        back = time.monotonic()
        until(lambda: service.count("PENDING") == 0, 30, "the mail of the outage")
        print(f"sent {time.monotonic() - back:.1f} s after the broker was back")
        rabbitmq.memory_alarm(True)
        alarmed = measured(load, "alarmed")
        rabbitmq.memory_alarm(False)
        until(lambda: service.count("PENDING") == 0, 30, "the mail of the alarm")
        # A request that waits for the broker waits for seconds: at least a hundred times as long.
        assert max(during, alarmed) < 10 * before
        assert (load.unavailable, load.failures) == (0, 0)
        assert check(service, load.accepted).unknown == 0


@pytest.mark.long
def test_a_broker_that_lost_everything_is_made_whole_by_the_worker_and_nobody_else(real_settings, rabbitmq):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        worker = service.start_worker()
        load = Load(service)
        service.ended(load.send("first@example.test"), "DELIVERED")
        worker.send_signal(signal.SIGSTOP)
        load.send_all(addresses("lost", 300))
        until(lambda: service.unhinted() == 0, what="every hint")
        rabbitmq.wipe()
        worker.send_signal(signal.SIGCONT)
        load.send_all(addresses("later", 20))
        until(lambda: "queue_mended" in (service.var / "worker.out").read_text(), 60, "the worker making the queues")
        service.age(120)  # the sweep takes a hint for lost after a minute
        until(lambda: service.count("PENDING") == 0, 30, "all of it")
        assert worker.poll() is None
        assert check(service, load.accepted).unknown == 0


@pytest.mark.long
def test_hints_without_a_queue_are_noticed_and_given_again(real_settings, rabbitmq):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        load = Load(service)
        service.ended(load.send("first@example.test"), "DELIVERED")
        connection = pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))
        channel = connection.channel()

        channel.queue_unbind(work_queue("normal"), WORK, "normal")
        load.send_all(addresses("unbound", 20))
        until(
            lambda: "has no queue" in (service.var / "worker.out").read_text() + (service.var / "api.out").read_text(),
            what="a word about it",
        )
        until(lambda: service.count("PENDING") == 0, 20, "what had no binding")

        channel.queue_delete(work_queue("normal"))
        load.send_all(addresses("deleted", 20))
        until(
            lambda: f"made={work_queue('normal')}" in (service.var / "worker.out").read_text(),
            60,
            "the worker making the queue",
        )
        connection.close()
        until(lambda: service.count("PENDING") == 0, 20, "what had no queue")
        assert check(service, load.accepted).unknown == 0


@pytest.mark.long
def test_a_worker_that_was_moved_to_a_new_queue_of_the_same_name_consumes_it(real_settings, rabbitmq):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        load = Load(service)
        load.send_all(addresses("before", 20))  # as many as RabbitMQ then takes for delivered
        until(lambda: service.count("PENDING") == 0, what="the mail before")
        connection = pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))
        channel, normal = connection.channel(), work_queue("normal")
        # Sooner than the worker's channel hears of the end of the first, so that it is not told.
        channel.queue_delete(normal)
        channel.queue_declare(normal, durable=True, arguments=WORK_ARGUMENTS)
        channel.queue_bind(normal, WORK, "normal")
        connection.close()
        load.send_all(addresses("after", 20))
        until(lambda: service.unhinted() == 0, what="every hint")
        service.age(120)  # the sweep is sure of a loss after a minute
        until(lambda: service.count("PENDING") == 0, what="the mail after")
        assert check(service, load.accepted).unknown == 0
