"""A RabbitMQ that lets our user in and forbids it to use the queues, and one without them."""

import os
from collections.abc import Callable, Iterator

import pika
import pytest

from mailbbgun.queues.topology import work_queue
from mailbbgun.settings.settings import Settings
from tests.flow.service import Service, until
from tests.flow.test_unwritable import INITDB, REQUEUE, STATUS, WORKER, said
from tests.servers import RabbitMQ

USER = "forbidden"
Allow = Callable[[str], None]


@pytest.fixture
def allow(real_settings: Settings, rabbitmq: RabbitMQ) -> Iterator[Allow]:
    """Sets what a user may configure, write and read: one pattern for the three."""
    vhost = real_settings.QUEUE_URL.rpartition("/")[2]
    rabbitmq.ctl("add_user", USER, "secret")
    yield lambda pattern: rabbitmq.ctl("set_permissions", "-p", vhost, USER, pattern, pattern, pattern) and None
    rabbitmq.ctl("delete_user", USER)


@pytest.mark.long
def test_a_user_without_rights_is_told_what_would_be_right(real_settings: Settings, allow: Allow) -> None:
    allow(".*")
    url = real_settings.QUEUE_URL.replace("tests:tests@", f"{USER}:secret@")
    with Service(real_settings, QUEUE_URL=url) as service:
        worker = service.start_worker()
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        allow("^$")
        part = service.http.get(f"{service.url}/ready").json()["parts"]["queue"]
        assert "rabbitmqctl set_permissions" in part
        assert USER not in part
        lines = said(service, WORKER, REQUEUE, STATUS, INITDB, code=os.EX_CONFIG)
        assert all("our user may not" in line and "rabbitmqctl set_permissions" in line for line in lines), lines
        assert not any("is missing" in line for line in lines)
        allow(".*")
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        assert until(lambda: service.http.get(f"{service.url}/ready").status_code == 200)
        assert worker.poll() is None


@pytest.mark.long
def test_a_missing_queue_is_told_by_commands_that_only_look(real_settings: Settings) -> None:
    service = Service(real_settings)
    service.install()
    connection = pika.BlockingConnection(pika.URLParameters(real_settings.QUEUE_URL))
    connection.channel().queue_delete(work_queue("bulk"))
    connection.close()
    lines = said(service, REQUEUE, STATUS, code=os.EX_CONFIG)
    assert all(f"RabbitMQ: {work_queue('bulk')} is missing; run initdb.py" in line for line in lines), lines
    assert (
        '"reachable": true' in service.run("bin/mailbbgun", "status", "--json", code=os.EX_CONFIG).partition("queue")[2]
    )
