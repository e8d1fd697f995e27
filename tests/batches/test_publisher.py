"""Hints of batches: they are published without a mark, and wait while the queue is away."""

from uuid import UUID

import pytest

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.core.ids import new_ids
from mailbbgun.messages import publisher as publishing
from mailbbgun.messages.publisher import Publisher
from mailbbgun.queues.lanes import NORMAL, OVERFLOW
from tests.accept.conftest import services as services  # the fixture
from tests.waiting import wait_until


class Away:
    """The embedded queue, which can be away."""

    def __init__(self, queue):
        self._queue, self.away, self.asked = queue, False, 0

    def publish(self, lane, message_ids, delay=0):
        self.asked += 1
        if self.away:
            raise QueueUnavailable("away")
        self._queue.publish(lane, message_ids, delay)

    def taken(self) -> list[UUID]:
        consumer = self._queue.consumer(10_000)
        hints = consumer.take(10_000, 0.0)
        consumer.settle(hints)
        return [one.message_id for one in hints]


@pytest.fixture
def queue(services):
    return Away(services.queue)


@pytest.fixture
def publisher(services, queue, monkeypatch):
    monkeypatch.setattr(publishing, "BACK_OFF", (0.01,))
    made = Publisher(services.db, queue)
    yield made
    made.close()


def test_the_hints_of_a_batch_are_published_in_order(publisher, queue):
    ids, got = new_ids(1200), []
    publisher.offer_marked(OVERFLOW, ids)
    wait_until(lambda: got.extend(queue.taken()) or len(got) >= 1200, "all hints")
    assert sorted(got) == ids
    assert queue.asked == 3


def test_while_the_queue_is_away_hints_of_batches_wait_and_new_batches_are_stored_unmarked(publisher, queue):
    queue.away = True
    first, second, got = new_ids(3), new_ids(2), []
    publisher.offer_marked(OVERFLOW, first)
    wait_until(lambda: queue.asked > 2, "some attempts")
    assert not publisher.takes(OVERFLOW, 1)
    assert publisher.takes(NORMAL, 1)
    publisher.offer_marked(OVERFLOW, second)
    queue.away = False
    wait_until(lambda: got.extend(queue.taken()) or len(got) >= 5, "all hints")
    assert sorted(got) == first + second
    wait_until(lambda: publisher.takes(OVERFLOW, 1), "the lane to work again")


def test_more_hints_than_may_wait_are_left_to_the_tick(publisher, queue):
    assert publisher.takes(OVERFLOW, publishing.BULK_BUFFER)
    assert not publisher.takes(OVERFLOW, publishing.BULK_BUFFER + 1)
