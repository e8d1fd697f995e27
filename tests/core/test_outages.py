"""Which lines are logged about a server that does not answer, by a clock that the tests set."""

import logging

import pytest

from mailbbgun.core.errors import DatabaseUnavailable, QueueUnavailable
from mailbbgun.core.outages import Outages

AWAY = QueueUnavailable("RabbitMQ does not answer: connection refused", address="broker.example.com:5672")


class Log:
    """Outages on a clock that a test sets, and the lines that they logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "mailbbgun.outages")
        self._caplog = caplog
        self.now = 1000.0
        self.outages = Outages(lambda: self.now)

    def lines(self) -> list[str]:
        """Return the names of the lines since the last call."""
        told = [one.getMessage() for one in self._caplog.records if one.name == "mailbbgun.outages"]
        self._caplog.clear()
        return told


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


def test_an_outage_is_logged_at_once_then_once_a_minute_and_when_it_is_over(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(150):
        log.outages.failed("intake", AWAY)
        log.outages.failed("tick", AWAY)
        log.now += 1
    assert [vars(one)["error"] for one in caplog.records] == [f"{AWAY} (broker.example.com:5672)"] * 3
    assert log.lines() == ["queue_unavailable"] * 3
    log.outages.worked("queue", "intake")
    assert log.lines() == []  # the other task still fails
    log.outages.worked("queue", "tick")
    assert [(vars(one)["address"], vars(one)["away_seconds"]) for one in caplog.records] == [
        ("broker.example.com:5672", 150)
    ]
    assert log.lines() == ["queue_back"]
    log.outages.worked("queue", "intake", "tick")
    assert log.lines() == []


def test_outages_of_two_kinds_of_server_are_logged_apart(log: Log) -> None:
    log.outages.failed("tick", AWAY)
    log.outages.failed("tick", DatabaseUnavailable("the database does not answer"))
    log.outages.worked("database", "tick")
    assert log.lines() == ["queue_unavailable", "database_unavailable", "database_back"]


def test_a_server_that_comes_and_goes_each_second_is_not_logged_each_time(log: Log) -> None:
    for _ in range(20):
        log.outages.failed("intake", AWAY)
        log.outages.worked("queue", "intake")
        log.now += 1
    assert log.lines() == ["queue_unavailable", "queue_back"] * 3
    log.now += 60
    log.outages.failed("intake", AWAY)
    assert log.lines() == ["queue_unavailable"]
