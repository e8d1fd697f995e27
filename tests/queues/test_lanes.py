"""Lanes: the lane of each priority, and the turns of the lanes."""

from collections import Counter
from itertools import pairwise

import pytest

from mailbbgun.queues.lanes import BULK, HIGH, LANES, NORMAL, OVERFLOW, WeightedRoundRobin, lane_of


@pytest.mark.parametrize(
    ("priority", "lane"),
    [
        (9, HIGH),
        (8, HIGH),
        (7, HIGH),
        (6, NORMAL),
        (5, NORMAL),
        (4, NORMAL),
        (3, BULK),
        (2, BULK),
        (1, BULK),
        (0, BULK),
    ],
)
def test_a_priority_has_its_lane(priority: int, lane: str) -> None:
    assert lane_of(priority) == lane


@pytest.mark.parametrize(
    ("busy", "turns"),
    [
        ({HIGH, NORMAL, OVERFLOW, BULK}, {HIGH: 16, NORMAL: 4, OVERFLOW: 3, BULK: 1}),
        ({HIGH, NORMAL, BULK}, {HIGH: 16, NORMAL: 4, BULK: 1}),
        ({NORMAL, OVERFLOW}, {NORMAL: 4, OVERFLOW: 3}),
        ({HIGH, NORMAL}, {HIGH: 16, NORMAL: 4}),
        ({HIGH, BULK}, {HIGH: 16, BULK: 1}),
        ({NORMAL, BULK}, {NORMAL: 4, BULK: 1}),
        ({BULK}, {BULK: 1}),
        ({HIGH}, {HIGH: 1}),
    ],
)
def test_busy_lanes_share_the_turns_by_weight(busy: set[str], turns: dict[str, int]) -> None:
    waiting = {lane: [1] if lane in busy else [] for lane in LANES}
    order = WeightedRoundRobin()
    for _ in range(3):
        assert Counter(order.next(waiting) for _ in range(sum(turns.values()))) == turns


def test_nobody_has_the_turn_when_all_lanes_are_empty() -> None:
    assert WeightedRoundRobin().next({lane: [] for lane in LANES}) is None


def test_high_goes_first_and_bulk_is_spread_between() -> None:
    waiting = {lane: [1] for lane in LANES}
    order = WeightedRoundRobin()
    sequence = [order.next(waiting) for _ in range(240)]
    assert sequence[0] == HIGH
    bulk = [turn for turn, lane in enumerate(sequence) if lane == BULK]
    assert {later - earlier for earlier, later in pairwise(bulk)} == {24}


def test_a_lane_that_was_empty_saves_up_no_turns() -> None:
    order = WeightedRoundRobin()
    only_bulk = {HIGH: [], NORMAL: [], OVERFLOW: [], BULK: [1]}
    for _ in range(1000):
        order.next(only_bulk)
    everything = {lane: [1] for lane in LANES}
    assert Counter(order.next(everything) for _ in range(24)) == {HIGH: 16, NORMAL: 4, OVERFLOW: 3, BULK: 1}
