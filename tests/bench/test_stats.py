"""Percentiles, medians, ratios."""

import pytest

from bench.stats import Spread, percentile, spread, summary, times, with_ratios


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 2.0, 3.0], 50, 2.0),
        ([1.0, 2.0], 0, 1.0),
        ([1.0, 2.0], 100, 2.0),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 51)), 99, 50),
        (list(range(1, 51)), 50, 25),
    ],
)
def test_percentile_is_a_value_that_occurred(values, percent, expected):
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], Spread(5.0, 5.0, 5.0)),
        ([1.0, 3.0], Spread(2.0, 1.0, 3.0)),
        ([9.0, 1.0, 4.0], Spread(4.0, 1.0, 9.0)),
    ],
)
def test_spread_is_median_and_range(values, expected):
    assert spread(values) == expected


def test_summary_is_by_subject_and_metric():
    rounds = [{"a": {"x": 1.0, "y": 5.0}, "b": {"x": 2.0}}, {"a": {"x": 3.0, "y": 5.0}, "b": {"x": 2.0}}]
    assert summary(rounds) == {
        "a": {"x": Spread(2.0, 1.0, 3.0), "y": Spread(5.0, 5.0, 5.0)},
        "b": {"x": Spread(2.0, 2.0, 2.0)},
    }


def test_ratios_are_to_the_reference_of_the_same_round():
    ours = {"send_rate": 500.0, "send_cpu_us": 300.0, "more": 1.0}
    figures = with_ratios({"ref": {"send_rate": 2000.0, "send_cpu_us": 100.0}, "ours": ours}, "ref")
    assert figures["ours"] == ours | {"send_rate_ratio": 0.25, "send_cpu_ratio": 3.0}
    assert figures["ref"]["send_rate_ratio"] == figures["ref"]["send_cpu_ratio"] == 1.0


def test_what_was_measured_in_some_rounds_only_is_summed_up_over_those():
    rounds = [{"a": {"x": 1.0}}, {"a": {"x": 3.0, "y": 2.0}, "b": {"x": 6.0}}]
    assert summary(rounds) == {
        "a": {"x": Spread(2.0, 1.0, 3.0), "y": Spread(2.0, 2.0, 2.0)},
        "b": {"x": Spread(6.0, 6.0, 6.0)},
    }
    assert times(rounds, "x", "a", "b") == Spread(0.5, 0.5, 0.5)
    assert times(rounds, "y", "a", "b") is None
