"""The contract of ``mailbbgun/queues/base.py``, for every driver."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import UUID

import pytest

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.base import Hint, Queue
from mailbbgun.queues.lanes import BULK, HIGH, LANES, NORMAL, OVERFLOW
from tests.contract.conftest import Driver
from tests.contract.hints import all_hints, another_process, consumer_of, hints_and_no_more, ids_of, new_ids
from tests.waiting import PATIENCE, at_least, bounded, pause, wait_until


@pytest.mark.parametrize("lane", LANES)
def test_a_published_hint_is_taken_from_its_lane(queue: Queue, lane: str) -> None:
    [one] = new_ids(1)
    queue.publish(lane, [one])
    with consumer_of(queue) as consumer:
        hints = consumer.take(10, PATIENCE)
        assert [(hint.message_id, hint.lane) for hint in hints] == [(one, lane)]


def test_a_take_from_an_empty_queue_returns_an_empty_list_after_the_timeout(queue: Queue) -> None:
    with consumer_of(queue) as consumer:
        with bounded("a take from an empty queue"), at_least(0.45):
            assert consumer.take(10, 0.5) == []


def test_a_waiting_take_returns_as_soon_as_a_hint_comes(queue: Queue) -> None:
    with consumer_of(queue) as consumer:
        timer = threading.Timer(0.3, queue.publish, (NORMAL, new_ids(1)))
        timer.start()
        with bounded("a take that a hint comes into"):
            assert len(consumer.take(10, 2 * PATIENCE)) == 1
        timer.join()


def test_a_consumer_of_some_lanes_leaves_the_others_to_another(queue: Queue) -> None:
    urgent, bulk = new_ids(3), new_ids(3)
    queue.publish(HIGH, urgent)
    queue.publish(BULK, bulk)
    with closing(queue.consumer(10, [HIGH])) as first, closing(queue.consumer(10, [NORMAL, BULK])) as second:
        assert ids_of(hints_and_no_more(first, 3)) == sorted(urgent)
        assert ids_of(hints_and_no_more(second, 3)) == sorted(bulk)


def test_settled_hints_do_not_come_again(queue: Queue) -> None:
    queue.publish(NORMAL, new_ids(50))
    with consumer_of(queue) as consumer:
        consumer.settle(all_hints(consumer, 50))
    with consumer_of(queue) as consumer:
        assert consumer.take(10, 0.5) == []
    assert queue.depth() == dict.fromkeys(LANES, 0)


def test_settling_hints_out_of_order_does_not_affect_the_others(driver: Driver) -> None:
    for one in new_ids(10):  # one publish each, so each has its own bunch
        driver.queue.publish(NORMAL, [one])
    with consumer_of(driver.queue) as consumer:
        hints = all_hints(consumer, 10)
        for some in (hints[7:8], hints[0:2], hints[3:4], hints[4:6]):
            consumer.settle(some)
    with consumer_of(driver.queue) as consumer:
        assert ids_of(hints_and_no_more(consumer, 4)) == ids_of([hints[2], hints[6], *hints[8:]])


def test_an_unsettled_hint_comes_again_at_most_together_with_its_bunch(driver: Driver) -> None:
    ids = new_ids(4 * driver.bunch)
    driver.queue.publish(NORMAL, ids)
    with consumer_of(driver.queue) as consumer:
        hints = all_hints(consumer, len(ids))
        assert [hint.message_id for hint in hints] == ids
        consumer.settle(hints[: driver.bunch + 1])
        consumer.settle(hints[3 * driver.bunch :])
    with consumer_of(driver.queue) as consumer:
        hints = hints_and_no_more(consumer, 1 if driver.bunch == 1 else 2 * driver.bunch)
        if driver.bunch == 1:
            assert ids_of(hints) == ids[2:3]
        else:
            assert ids_of(hints) == ids[driver.bunch : 3 * driver.bunch]
        for hint in reversed(hints):
            consumer.settle([hint])
    with consumer_of(driver.queue) as consumer:
        assert consumer.take(10, 0.5) == []


def test_settling_twice_or_at_another_consumer_does_no_harm(queue: Queue) -> None:
    queue.publish(NORMAL, new_ids(2))
    with consumer_of(queue) as first, consumer_of(queue) as second:
        hints = all_hints(first, 1) or all_hints(second, 1)
        for consumer in (first, second, first, second):
            consumer.settle(hints)
        queue.publish(NORMAL, new_ids(1))
        wait_until(lambda: bool(first.take(1, 0.2) or second.take(1, 0.2)))


def test_unsettled_hints_come_again_when_their_consumer_closes(queue: Queue) -> None:
    ids = new_ids(20)
    queue.publish(BULK, ids)
    with consumer_of(queue) as consumer:
        assert ids_of(all_hints(consumer, 20)) == ids
    with consumer_of(queue) as consumer:
        assert ids_of(all_hints(consumer, 20)) == ids


def test_unsettled_hints_come_again_when_their_consumer_is_killed(driver: Driver) -> None:
    ids = new_ids(20)
    driver.queue.publish(NORMAL, ids)
    with another_process(
        driver, "consumer = queue.consumer(20); hints = []\nwhile len(hints) < 20: hints += consumer.take(20, 5)"
    ):
        assert driver.queue.depth()[NORMAL] == 0
    driver.hold_passes()
    with consumer_of(driver.queue) as consumer:
        assert ids_of(all_hints(consumer, 20)) == ids


def test_no_hint_is_dropped_however_often_its_consumer_dies(driver: Driver) -> None:
    ids = new_ids(5)
    driver.queue.publish(NORMAL, ids)
    for _ in range(25):  # by default RabbitMQ 4 drops a message after 20 deliveries
        with consumer_of(driver.queue) as consumer:
            assert ids_of(all_hints(consumer, 5)) == ids


def test_delayed_hints_come_on_time_and_on_their_lane_whatever_was_published_before(queue: Queue) -> None:
    expected = {}
    begun: dict[UUID, float] = {}
    for lane, delay in ((BULK, 3), (HIGH, 1), (NORMAL, 3), (BULK, 1)):
        [one] = new_ids(1)
        begun[one] = time.monotonic()
        queue.publish(lane, [one], delay)
        expected[one] = (lane, delay)
    with consumer_of(queue) as consumer:
        for _ in range(len(expected)):
            [hint] = consumer.take(1, PATIENCE)
            now = time.monotonic()
            lane, delay = expected.pop(hint.message_id)
            assert hint.lane == lane
            assert now - begun[hint.message_id] >= delay - 0.1


def test_lanes_take_weighted_turns(driver: Driver) -> None:
    for lane in (BULK, NORMAL, HIGH):
        driver.queue.publish(lane, new_ids(42))
    with consumer_of(driver.queue) as consumer:
        if driver.prefetches:
            wait_until(lambda: not any(driver.queue.depth().values()))
            pause(0.2)  # time for the hints to reach the consumer's buffers
        for _ in range(2):
            lanes = [hint.lane for hint in consumer.take(21, PATIENCE)]
            assert {lane: lanes.count(lane) for lane in LANES} == {HIGH: 16, NORMAL: 4, OVERFLOW: 0, BULK: 1}
            assert lanes[0] == HIGH


def test_a_take_can_be_limited_to_some_lanes(driver: Driver) -> None:
    driver.queue.publish(BULK, new_ids(3))
    with consumer_of(driver.queue) as consumer:
        wait_until(lambda: not driver.prefetches or not any(driver.queue.depth().values()))
        with at_least(0.3):
            assert consumer.take(10, 0.3, (HIGH, NORMAL)) == []
        assert consumer.take(10, 0.0, ()) == []
        driver.queue.publish(NORMAL, new_ids(2))
        assert [hint.lane for hint in consumer.take(10, PATIENCE, (HIGH, NORMAL))] == [NORMAL] * 2
        taken: list[str] = []
        while len(taken) < 3 and (hints := consumer.take(10, PATIENCE)):
            taken += [hint.lane for hint in hints]
        assert taken == [BULK] * 3


@pytest.mark.parametrize("prefetch", [5, 80])
def test_a_consumer_holds_no_more_than_its_prefetch_per_lane_or_twice_that_in_bunches(
    driver: Driver, prefetch: int
) -> None:
    queue, held = driver.queue, driver.held(prefetch)
    assert held == prefetch if driver.bunch == 1 else held <= max(2 * prefetch, 128)
    queue.publish(NORMAL, new_ids(480))
    queue.publish(HIGH, new_ids(480))
    with consumer_of(queue, prefetch) as consumer:
        hints = hints_and_no_more(consumer, 2 * held)
        assert sorted(hint.lane for hint in hints) == [HIGH] * held + [NORMAL] * held
        assert queue.depth() == {HIGH: 480 - held, NORMAL: 480 - held, OVERFLOW: 0, BULK: 0}
        consumer.settle(hints)
        assert len(all_hints(consumer, 2 * held)) == 2 * held


def test_two_consumers_never_hold_the_same_hint(queue: Queue) -> None:
    ids = new_ids(1000)
    queue.publish(NORMAL, ids)
    taken: list[Hint] = []
    gate = threading.Barrier(4)

    def work() -> None:
        with consumer_of(queue) as consumer:
            gate.wait(PATIENCE)  # or one of them would be done before the next is connected
            while len(taken) < len(ids):
                hints = consumer.take(20, 0.2)
                taken.extend(hints)
                consumer.settle(hints)

    with bounded("taking them all"), ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(work) for _ in range(4)]:
            one.result()
    with consumer_of(queue) as consumer:
        assert consumer.take(1, 0.5) == []
    assert ids_of(taken) == ids


def test_many_threads_publish_at_once_and_all_hints_arrive(queue: Queue) -> None:
    batches = [new_ids(20) for _ in range(80)]
    failures: list[QueueUnavailable] = []

    def work(mine: list[list[UUID]]) -> None:
        try:
            for batch in mine:
                queue.publish(LANES[batch[0].int % 3], batch)
        except QueueUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(batches[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with consumer_of(queue, prefetch=2000) as consumer:
        assert ids_of(all_hints(consumer, 1600)) == sorted(one for batch in batches for one in batch)


def test_a_hint_published_twice_may_come_twice_and_is_settled_by_itself(queue: Queue) -> None:
    [one] = new_ids(1)
    for _ in range(2):
        queue.publish(NORMAL, [one])
    with consumer_of(queue) as consumer:
        hints = all_hints(consumer, 2)
        assert [hint.message_id for hint in hints] == [one, one]
        consumer.settle(hints[:1])
    with consumer_of(queue) as consumer:
        assert len(hints_and_no_more(consumer, 1)) == 1


def test_depth_counts_neither_delayed_nor_held_hints(driver: Driver) -> None:
    queue, held = driver.queue, driver.held(4)
    queue.publish(NORMAL, new_ids(480))
    queue.publish(BULK, new_ids(4))
    queue.publish(HIGH, new_ids(480), 3)
    wait_until(lambda: queue.depth()[NORMAL] == 480)  # the bunches of NORMAL are full
    depth = queue.depth()
    assert depth[HIGH] == 0
    assert 4 <= depth[BULK] <= 4 * driver.bunch
    with consumer_of(queue, prefetch=4) as consumer:
        assert len(hints_and_no_more(consumer, held + 4)) == held + 4
        wait_until(lambda: queue.depth() == {HIGH: 0, NORMAL: 480 - held, OVERFLOW: 0, BULK: 0})


def test_depth_is_never_less_than_the_number_of_waiting_hints(driver: Driver) -> None:
    waiting = 0
    for count in (1, 2, 3, 15, 16, 17, 31, 32, 33, 100):
        driver.queue.publish(NORMAL, new_ids(count))
        waiting += count
        wait_until(lambda least=waiting: least <= driver.queue.depth()[NORMAL] <= least * driver.bunch)
    if driver.bunch == 1:
        assert driver.queue.depth()[NORMAL] == waiting


def test_publishing_nothing_does_nothing(queue: Queue) -> None:
    queue.publish(NORMAL, [])
    assert not any(queue.depth().values())


def test_a_lane_or_a_delay_that_does_not_exist_is_refused(queue: Queue) -> None:
    assert tuple(queue.delays) == (1, 3)
    with pytest.raises(ValueError, match="lane"):
        queue.publish("express", new_ids(1))
    with pytest.raises(ValueError, match="delay"):
        queue.publish(NORMAL, new_ids(1), 2)


def test_declaring_again_keeps_queued_hints(queue: Queue) -> None:
    queue.publish(NORMAL, new_ids(32))
    queue.declare()
    queue.check()
    assert queue.depth()[NORMAL] == 32


def test_mending_a_complete_topology_makes_nothing_and_keeps_queued_hints(queue: Queue) -> None:
    queue.publish(NORMAL, [new_id()])
    assert list(queue.mend()) == []
    assert queue.depth()[NORMAL] >= 1


def test_a_missing_part_is_named_by_check(driver: Driver) -> None:
    driver.queue.check()
    driver.missing()
    with pytest.raises(QueueMisconfigured, match=r"(mailbbgun.work.normal.v1|queue_hints).*initdb.py"):
        driver.queue.check()


def test_closing_is_safe_to_repeat(queue: Queue) -> None:
    queue.publish(NORMAL, new_ids(1))
    consumer = queue.consumer(10)
    consumer.take(1, PATIENCE)
    for _ in range(2):
        consumer.close()
        queue.close()
