"""``bin/requeue-pending`` publishes lost hints again, and none for a healthy backlog."""

import fcntl
import os

import pytest

from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_REAL
from tests.flow.service import Service, until

#: More than NEARLY_EMPTY, so that the queue counts as healthy.
MESSAGES = 1100


@pytest.fixture
def backlog(backend):
    with Service(backend) as service:
        Load(service).send_all(addresses("u", MESSAGES))
        services = build(load(service.environment))
        until(lambda: service.unhinted() == 0, what="every hint on the queue")
        yield service, services
        services.close()


def _purge(service: Service, services) -> None:
    """Remove every hint from the queue, as if the broker had been wiped."""
    consumer = services.queue.consumer(500)
    while (hints := consumer.take(500, 0.5)) or any(services.queue.depth().values()):
        consumer.settle(hints)
    consumer.close()


@pytest.mark.long
@MOSTLY_REAL
def test_a_purged_backlog_is_requeued_whole_and_a_healthy_one_not_at_all(backlog):
    service, services = backlog
    assert service.run("bin/requeue-pending", "--older-than", "1") == "requeued 0\n"
    _purge(service, services)
    assert f"{MESSAGES} stranded" in service.run("bin/requeue-pending", "--older-than", "1", "--dry-run")
    assert sum(services.queue.depth().values()) == 0
    assert f"requeued {MESSAGES}\n" in service.run("bin/requeue-pending", "--older-than", "1")
    assert service.run("bin/requeue-pending", "--older-than", "1") == "requeued 0\n"
    service.start_worker()
    until(lambda: service.count("DELIVERED") == MESSAGES, 60, "every delivery")
    assert set(service.copies().values()) == {1}
    assert len(service.copies()) == MESSAGES


@pytest.mark.long
def test_two_do_not_run_at_once(embedded_settings):
    with Service(embedded_settings) as service:
        lock = os.open(service.var / "requeue-pending.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another one is running" in service.run("bin/requeue-pending", code=75)
        os.close(lock)
        assert service.run("bin/requeue-pending") == "requeued 0\n"
        assert service.run("bin/requeue-pending", "--quiet") == ""


def test_a_database_that_does_not_answer_is_one_line_and_exit_code_1(embedded_settings):
    with Service(embedded_settings) as service:
        service.environment["MAILBBGUN_DATABASE_URL"] = "postgresql+psycopg2://nobody@127.0.0.1:1/none"
        (line,) = service.run("bin/requeue-pending", code=1).splitlines()
        assert line.startswith("requeue-pending: the database does not answer (")
        assert "port 1 failed" in line
