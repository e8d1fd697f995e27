"""What tests do with a queue on RabbitMQ."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.base import Consumer, Hint
from mailbbgun.queues.lanes import NORMAL
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from tests.waiting import PATIENCE, wait_until


@contextmanager
def raw_channel(url: str) -> Iterator[BlockingChannel]:
    """Yield a channel for things that our code never does."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def publishes_again(queue: RabbitQueue) -> None:
    def published() -> bool:
        try:
            queue.publish(NORMAL, [new_id()])
        except QueueUnavailable:
            return False
        return True

    wait_until(published, "a publish that goes through again", look=0.1)


def wait_for_depth(queue: RabbitQueue, lane: str, depth: int) -> None:
    """Wait until a lane is that deep: acks and a closed consumer's hints arrive a moment later."""
    wait_until(lambda: queue.depth()[lane] == depth, f"a depth of {depth}", look=0.05)


def all_hints(consumer: Consumer, count: int, seconds: float = PATIENCE) -> list[Hint]:
    """Take until ``count`` hints came, or none for ``seconds``."""
    hints: list[Hint] = []
    while len(hints) < count and (more := consumer.take(count - len(hints), seconds)):
        hints += more
    return hints


def ids_in(hints: list[Hint]) -> list[UUID]:
    return [hint.message_id for hint in hints]
