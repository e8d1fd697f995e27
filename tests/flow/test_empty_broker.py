"""After RabbitMQ has lost our queues, mail moves again by itself, or the log says what to run."""

from typing import Any

import pika
import pytest

from mailbbgun.queues.lanes import LANES
from mailbbgun.queues.topology import WORK, delay_queue, work_queue
from tests.flow.service import Service, until

DELAY = 2


def emptied(service: Service) -> None:
    """Delete every exchange and queue, as if the node had been reset."""
    connection = pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))
    channel: Any = connection.channel()
    for name in (*map(work_queue, LANES), delay_queue(DELAY)):
        channel.queue_delete(name)
    for name in (WORK, delay_queue(DELAY)):
        channel.exchange_delete(name)
    connection.close()


def said(service: Service) -> str:
    return (service.var / "worker.out").read_text()


def test_missing_queues_are_made_again_and_new_and_deferred_mail_is_delivered(
    real_settings,
):
    with Service(real_settings, SWEEP_SECONDS=1) as service:
        service.start_worker()
        service.ended(service.post(to="first@example.test")["id"], "DELIVERED", 60)
        emptied(service)
        posted = [service.post(to=f"ann{priority}@example.test", priority=priority)["id"] for priority in (0, 5, 9)]
        posted.append(service.post(to="later-1-d@example.test")["id"])  # goes through the delay queue as well
        until(lambda: "queue_mended" in said(service), 60, "the log line")
        service.age(120)  # the sweep takes a hint for lost after a minute
        for one in posted:
            service.ended(one, "DELIVERED", 60)
        assert set(service.copies().values()) == {1}


@pytest.fixture
def guarded(real_settings, rabbitmq):
    """A service whose worker has a RabbitMQ user that may not make queues."""
    service = Service(real_settings, SWEEP_SECONDS=1)
    url = service.environment["MAILBBGUN_QUEUE_URL"]
    rabbitmq.ctl("add_user", "guarded", "secret")
    rabbitmq.ctl("set_permissions", "-p", url.rpartition("/")[2], "guarded", "^$", ".*", ".*")
    service.only["worker"]["QUEUE_URL"] = url.replace("tests:tests@", "guarded:secret@")
    yield service
    rabbitmq.ctl("delete_user", "guarded")


@pytest.mark.long
def test_a_worker_that_may_not_make_queues_says_what_to_run_and_then_continues(guarded):
    with guarded as service:
        worker = service.start_worker()
        service.ended(service.post(to="first@example.test")["id"], "DELIVERED", 60)
        emptied(service)
        waiting = service.post(to="ann@example.test")["id"]
        until(lambda: "queue_broken" in said(service), 60, "the log line")
        assert "our user may not make it: run initdb.py" in said(service)
        assert worker.poll() is None
        service.run("initdb.py")
        service.age(120)
        service.ended(waiting, "DELIVERED", 60)
