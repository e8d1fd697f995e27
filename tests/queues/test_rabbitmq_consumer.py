"""Bunches of hints on a real RabbitMQ: published, taken, settled."""

import pytest

from mailbbgun.core.ids import new_id
from mailbbgun.queues.bunches import BUNCH, fetched
from mailbbgun.queues.lanes import NORMAL
from mailbbgun.queues.rabbitmq import RabbitMQ as RabbitQueue
from mailbbgun.queues.topology import WORK, work_queue
from tests.queues.brokers import all_hints, ids_in, raw_channel, wait_for_depth
from tests.waiting import PATIENCE


@pytest.mark.parametrize("count", [1, 40])
def test_a_hint_is_persistent_and_holds_nothing_but_ids(queue: RabbitQueue, url: str, count: int) -> None:
    ids = [new_id() for _ in range(count)]
    queue.publish(NORMAL, ids)
    with raw_channel(url) as channel:
        for first in range(0, count, BUNCH):
            _, properties, body = channel.basic_get(work_queue(NORMAL))
            assert body == "\n".join(map(str, ids[first : first + BUNCH])).encode()
            assert properties is not None
            assert properties.delivery_mode == 2
            assert set(properties.headers or ()) <= {"x-delivery-count"}  # the broker's own
        assert channel.basic_get(work_queue(NORMAL))[2] is None


@pytest.mark.parametrize("delay", [0, 1])
def test_forty_hints_in_three_bunches_arrive_once_each_and_in_order(queue: RabbitQueue, delay: int) -> None:
    ids = [new_id() for _ in range(40)]
    queue.publish(NORMAL, ids, delay)
    consumer = queue.consumer(100)
    hints = all_hints(consumer, 40)
    assert consumer.take(1, 0.5) == []
    assert ids_in(hints) == ids
    for start in range(0, 40, 7):
        consumer.settle(hints[start : start + 7])
    consumer.close()
    wait_for_depth(queue, NORMAL, 0)


def test_a_bunch_is_acked_when_all_its_hints_are_settled_and_else_comes_again_whole(queue: RabbitQueue) -> None:
    ids = [new_id() for _ in range(3 * BUNCH)]
    queue.publish(NORMAL, ids)
    consumer = queue.consumer(100)
    hints = all_hints(consumer, len(ids))
    second, third = hints[BUNCH : 2 * BUNCH], hints[2 * BUNCH :]
    consumer.settle(third)
    consumer.settle(second[:7])
    for _ in range(BUNCH):  # settled as often as there are hints
        consumer.settle(second[7:8])
    consumer.settle(hints[1:BUNCH])
    consumer.settle(hints[:1])
    consumer.close()
    wait_for_depth(queue, NORMAL, BUNCH)
    consumer = queue.consumer(100)
    again = all_hints(consumer, BUNCH)
    assert ids_in(again) == ids_in(second)
    consumer.settle(hints)  # hints of another connection mean nothing here
    consumer.settle([*reversed(again[1:]), again[0]])
    consumer.close()
    wait_for_depth(queue, NORMAL, 0)


def test_bunches_settled_crosswise_are_acked_each_for_itself(queue: RabbitQueue) -> None:
    ids = [new_id() for _ in range(5 * BUNCH)]
    queue.publish(NORMAL, ids)
    consumer = queue.consumer(100)
    hints = all_hints(consumer, len(ids))
    crosswise = [hint for place in range(BUNCH) for hint in hints[place::BUNCH]]
    consumer.settle(crosswise[:-3])  # the last hint of each of the last three bunches is held
    consumer.settle(crosswise[-2:-1])
    consumer.close()
    consumer = queue.consumer(100)
    assert ids_in(all_hints(consumer, 2 * BUNCH)) == ids[2 * BUNCH : 3 * BUNCH] + ids[4 * BUNCH :]
    consumer.close()


def test_many_bodies_of_one_id_as_they_were_before_bunches_all_come_though_few_are_fetched_at_once(
    queue: RabbitQueue, url: str
) -> None:
    ids = [new_id() for _ in range(100)]
    with raw_channel(url) as channel:
        for one in ids:
            channel.basic_publish(WORK, NORMAL, str(one).encode())
    later = [new_id() for _ in range(20)]
    queue.publish(NORMAL, later)
    consumer = queue.consumer(80)
    first = all_hints(consumer, fetched(80))
    assert consumer.take(1, 0.5) == []
    assert ids_in(first) == ids[: fetched(80)]
    taken = list(first)
    consumer.settle(first)
    while len(taken) < len(ids + later) and (more := consumer.take(200, PATIENCE)):
        consumer.settle(more)
        taken += more
    consumer.close()
    assert ids_in(taken) == ids + later
    wait_for_depth(queue, NORMAL, 0)
