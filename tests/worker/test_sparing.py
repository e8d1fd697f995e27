"""Hints of a lane whose transactions cannot leave are taken sparingly.

That lane delays no other lane, and no other lane delays it.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from mailbbgun.core.ids import new_id
from mailbbgun.install import install
from mailbbgun.queues.lanes import BULK, NORMAL
from mailbbgun.services import build
from mailbbgun.settings.settings import Settings
from mailbbgun.worker.intake import CLAIM_BATCH, SPARING_BATCH, SPARING_REST
from mailbbgun.worker.process import WorkerProcess


@pytest.fixture
def worker(backend: Settings) -> Iterator[WorkerProcess]:
    services = build(backend)
    install(services)
    services.queue.publish(BULK, [new_id() for _ in range(900)])
    services.queue.publish(NORMAL, [new_id() for _ in range(100)])
    made = WorkerProcess(services)
    yield made
    made.context.close(5.0)
    services.close()


def taken(worker: WorkerProcess, lanes: Counter[str]) -> list[tuple[float, Counter[str]]]:
    """Take hints until so many of each lane have come.

    Return the time and the lanes of each turn.
    """
    turns: list[tuple[float, Counter[str]]] = []
    with closing(worker._services.queue.consumer(1000)) as consumer:
        while not (first := worker.intake.hints(consumer, 1000)):
            pass
        began = time.monotonic()
        turns.append((0.0, Counter(hint.lane for hint in first)))
        while lanes - sum((turn for _, turn in turns), Counter()):
            if hints := worker.intake.hints(consumer, 1000):
                turns.append((time.monotonic() - began, Counter(hint.lane for hint in hints)))
    return turns


@pytest.mark.parametrize(("slow", "quick"), [(NORMAL, BULK), (BULK, NORMAL)])
def test_a_sparing_lane_has_its_turns_and_the_other_does_not_wait_for_them(
    worker: WorkerProcess, slow: str, quick: str
) -> None:
    worker.intake.sparing[slow] = time.monotonic() + 60
    turns = taken(worker, Counter({quick: 900 if quick == BULK else 100, slow: 2 * SPARING_BATCH}))
    assert all(len(lanes) == 1 for _, lanes in turns)  # apart, or the quick lane's claim would wait
    of_slow = [(when, lanes[slow]) for when, lanes in turns if slow in lanes]
    assert max(count for _, count in of_slow) <= SPARING_BATCH
    assert 2 <= len(of_slow) <= turns[-1][0] / SPARING_REST + 2  # a slow machine only has more turns
    of_quick = sum(lanes[quick] for _, lanes in turns)
    assert of_quick == (900 if quick == BULK else 100)


def test_without_a_sparing_lane_lanes_take_turns_by_their_weights(worker: WorkerProcess) -> None:
    turns = taken(worker, Counter({NORMAL: 100, BULK: 900}))
    assert sum(turns[0][1].values()) <= CLAIM_BATCH
    assert sum((lanes for _, lanes in turns), Counter()) == {NORMAL: 100, BULK: 900}
