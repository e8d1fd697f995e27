"""Helpers of the contract suites for hints and consumers."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.base import Consumer, Hint, Queue
from tests.contract.conftest import Driver
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
#: Seconds. A quorum queue that is killed when younger can be lost, with its confirmed hints.
SETTLED_TOPOLOGY = 3.0


def new_ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def all_hints(consumer: Consumer, count: int, seconds: float = PATIENCE) -> list[Hint]:
    """Take until ``count`` hints have come, or none for ``seconds``. Settles nothing."""
    hints: list[Hint] = []
    while len(hints) < count and (more := consumer.take(count - len(hints), seconds)):
        hints += more
    return hints


def hints_and_no_more(consumer: Consumer, count: int, quiet: float = 0.5) -> list[Hint]:
    """Take until ``count`` hints have come, however long it takes, and what else comes within ``quiet`` seconds."""
    return all_hints(consumer, count) + consumer.take(count + 1, quiet)


def ids_of(hints: Iterable[Hint]) -> list[UUID]:
    return sorted(hint.message_id for hint in hints)


def succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except QueueUnavailable:
        return False
    return True


@contextmanager
def consumer_of(queue: Queue, prefetch: int = 100) -> Iterator[Consumer]:
    consumer = queue.consumer(prefetch)
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def another_process(driver: Driver, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``code`` with a ``queue`` in another process, which SIGKILL ends after the block."""
    script = f"""
import sys, time, uuid
from mailbbgun.database.db import Database
from mailbbgun.queues.embedded import Embedded
from mailbbgun.queues.rabbitmq import RabbitMQ
queue = {driver.source}
{code}
print("done", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
