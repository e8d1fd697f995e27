"""Slopes and bounds: leaks are found; gauges that reach a level, or jump about, are no leaks."""

import random

import pytest

from tests.chaos.trend import Bound, slope, table, trends

TIMES = [10.0 * number for number in range(1, 361)]  # an hour


def trend(values, bound):
    return trends(TIMES, [{"gauge": value} for value in values], {"gauge": bound})["gauge"]


def test_a_file_that_leaks_each_five_minutes_is_seen_through_the_noise_of_connections():
    dice = random.Random(1)
    level = [40 + dice.randrange(-6, 7) for _ in TIMES]
    assert trend(level, Bound(growth=5)).well
    leaking = trend([value + time // 300 for value, time in zip(level, TIMES, strict=True)], Bound(growth=5))
    assert not leaking.well
    assert 4 < leaking.growth < 8
    assert 8 < leaking.slope < 16  # 12 an hour


def test_what_rises_to_its_level_in_the_first_half_is_no_leak():
    assert trend([min(time, 900.0) for time in TIMES], Bound(growth=0)).growth == 0


def test_one_odd_sample_moves_no_slope_but_is_the_most():
    values = [5.0] * len(TIMES)
    values[-2] = 500.0
    assert trend(values, Bound(growth=0)).well
    assert not trend(values, Bound(most=100)).well


def test_what_shrinks_is_well():
    assert trend([-time for time in TIMES], Bound(growth=0)).well


@pytest.mark.parametrize("times", [[1.0], [1.0, 2.0], TIMES])
def test_a_slope_is_growth_a_second(times):
    assert slope(times, [3 * time + 7 for time in times]) == pytest.approx(3 if len(times) > 1 else 0)


def test_the_table_marks_what_went_beyond_its_bound():
    samples = [{"api: files": 10.0, "worker: MB": 100.5 + time} for time in TIMES]
    lines = table(
        trends(TIMES, samples, {"api: files": Bound(growth=5), "worker: MB": Bound(growth=1, most=9)})
    ).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["api:", "files", "10", "10", "+0", "+0", "+5"],
        ["worker:", "MB", "110.5", "3,700", "+3,600", "+1.79e+03", "+1,", "≤", "9", "TOO", "MUCH"],
    ]
