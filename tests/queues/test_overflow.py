"""Who hands over much goes on a lane of its own, and nobody else does."""

from uuid import uuid4

import pytest

from mailbbgun.queues.lanes import BULK, HIGH, NORMAL, OVERFLOW
from mailbbgun.queues.overflow import BURST, MOST_KNOWN, PER_SECOND, Overflow

ONE, OTHER = uuid4(), uuid4()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def crowds(clock: Clock) -> Overflow:
    return Overflow(clock)


def test_a_burst_is_normal_and_what_is_more_is_crowd_and_others_are_not_touched(crowds: Overflow) -> None:
    assert [crowds.count_and_choose_lane(ONE, 5) for _ in range(BURST)] == [NORMAL] * BURST
    assert [crowds.count_and_choose_lane(ONE, 5) for _ in range(5)] == [OVERFLOW] * 5
    assert crowds.count_and_choose_lane(OTHER, 5) == NORMAL


def test_urgent_and_bulk_mail_stays_what_it_is(crowds: Overflow) -> None:
    for _ in range(2 * BURST):
        crowds.count_and_choose_lane(ONE, 5)
    assert (
        crowds.count_and_choose_lane(ONE, 9),
        crowds.count_and_choose_lane(ONE, 0),
        crowds.count_and_choose_lane(ONE, 5),
    ) == (HIGH, BULK, OVERFLOW)


def test_a_trickle_never_becomes_a_crowd(crowds: Overflow, clock: Clock) -> None:
    for _ in range(5000):
        assert crowds.count_and_choose_lane(ONE, 5) == NORMAL
        clock.now += 1 / PER_SECOND


def test_a_crowd_that_rests_is_normal_again_however_long_it_was(crowds: Overflow, clock: Clock) -> None:
    for _ in range(100_000):
        crowds.count_and_choose_lane(ONE, 5)
    clock.now += 2 * BURST / PER_SECOND
    assert crowds.count_and_choose_lane(ONE, 5) == NORMAL


def test_what_is_remembered_is_bounded(crowds: Overflow) -> None:
    for _ in range(MOST_KNOWN + 10):
        crowds.count_and_choose_lane(uuid4(), 5)
    assert len(crowds._levels) <= MOST_KNOWN
