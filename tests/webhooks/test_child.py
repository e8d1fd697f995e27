"""Webhooks are sent by a child process of a worker, which runs only while there are endpoints."""

import os
import signal
from pathlib import Path

import pytest

from mailbbgun.settings.settings import Settings
from mailbbgun.worker.webhooks import NICE
from tests.conftest import MOSTLY_EMBEDDED
from tests.flow.service import Service, until
from tests.flow.test_signals import children, command_line
from tests.waiting import PATIENCE, pause
from tests.webhooks.conftest import SETTINGS
from tests.webhooks.receiver import WebhookReceiver


def senders(service: Service) -> list[int]:
    """Return the processes that send webhooks for the worker, or for the members of its supervisor."""
    worker = service.processes["worker"].pid
    return [
        pid
        for parent in (worker, *children(worker))
        for pid in children(parent)
        if "--webhooks" in command_line(pid).split()
    ]


def watch(service: Service, receiver: WebhookReceiver) -> None:
    made = service.http.post(f"{service.url}/webhooks", json={"url": receiver.url}, timeout=PATIENCE)
    assert made.status_code == 201, made.text
    receiver.secret = made.json()["secret"]


def send(service: Service, number: int) -> None:
    """Send messages, and wait until they are delivered: each has two events."""
    sent = [service.post(to=f"n{n}@example.test", subject="n", text="x")["id"] for n in range(number)]
    for one in sent:
        service.ended(one, "DELIVERED")


def place_is_written(service: Service) -> bool:
    """Return whether the database has it that all events of the log were acknowledged."""
    last = "SELECT id FROM events ORDER BY position DESC, id DESC LIMIT 1"
    return bool(service.sql(f"SELECT 1 FROM webhook_endpoints WHERE event_id = ({last})"))


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_a_child_sends_webhooks_while_there_are_endpoints_and_is_replaced_if_it_dies(
    backend: Settings, receiver: WebhookReceiver
) -> None:
    with Service(backend, **SETTINGS | {"LEASE_SECONDS": 60}) as service:
        service.start_worker()
        send(service, 1)
        pause(2.5)  # for two looks
        assert senders(service) == []

        watch(service, receiver)
        (first,) = until(lambda: senders(service), what="the child")
        until(lambda: os.getpriority(os.PRIO_PROCESS, first) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE))
        send(service, 5)
        until(lambda: receiver.acknowledged() == 10)
        until(lambda: place_is_written(service), what="the place in the log")
        before = set(receiver.times)

        # The next one has the endpoint at once, although the lease of the dead one would last for 20 seconds.
        os.kill(first, signal.SIGKILL)
        send(service, 5)
        until(lambda: receiver.acknowledged() == 20)
        assert {receiver.times[one] for one in before} == {1}
        until(lambda: place_is_written(service), what="the place in the log")
        (second,) = senders(service)
        assert first != second
        assert (service.var / "worker.out").read_text().count("webhooks_died") == 1

        assert service.stop("worker") == 0
        assert not Path(f"/proc/{second}").exists()
        assert service.sql("SELECT lease_owner FROM webhook_endpoints") == [(None,)]
        assert "webhooks_stopped" in (service.var / "worker.out").read_text()


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_the_processes_of_a_machine_have_one_child_which_ends_with_its_parent(
    backend: Settings, receiver: WebhookReceiver
) -> None:
    with Service(backend, **SETTINGS | {"WORKER_PROCESSES": 2}) as service:
        watch(service, receiver)
        service.start_worker()
        send(service, 3)
        until(lambda: receiver.acknowledged() == 6)
        pause(2.5)  # for two looks of the other member
        (first,) = senders(service)
        (parent,) = (pid for pid in children(service.processes["worker"].pid) if first in children(pid))
        os.kill(parent, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{first}").exists(), what="the end of the child")
        send(service, 3)
        until(lambda: receiver.acknowledged() == 12)
        (second,) = senders(service)
        assert service.stop("worker") == 0
        assert not Path(f"/proc/{second}").exists()
