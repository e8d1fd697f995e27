"""Queues on a RabbitMQ that a test may damage."""

from collections.abc import Iterator

import pytest

from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from tests.servers import RabbitMQ


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
