"""Times in buckets, and percentiles of them."""

import random
from collections import Counter

import pytest

from mailbbgun.statistics.histogram import FIRST, LAST, bucket_of, quantile


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-3.0, 0), (0.0, 0), (FIRST, 0), (FIRST * 1.01, 1), (FIRST * 2, 4), (1.0, 40), (1e9, LAST)],
)
def test_a_time_is_in_the_bucket_of_its_size(seconds, bucket):
    assert bucket_of(seconds) == bucket


def test_percentiles_are_within_nine_percent_of_the_exact_ones():
    dice = random.Random(1)
    times = sorted(dice.lognormvariate(0, 2) for _ in range(10_000))
    told = Counter(map(bucket_of, times))
    for part in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = times[max(0, int(part * len(times)) - 1)]
        assert quantile(told, part) == pytest.approx(exact, rel=0.1)
    assert quantile({}, 0.5) is None
