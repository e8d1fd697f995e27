"""What one process counts."""

import pytest

from mailbbgun.counters.counters import Counters, PhaseTimer
from mailbbgun.counters.families import ACCEPTED, ATTEMPTS, BUCKETS, PHASES, RETRIES, SEND_QUEUE


def test_counts_add_up_by_their_labels() -> None:
    counters = Counters()
    counters.add(ACCEPTED, "normal")
    counters.add(ACCEPTED, "normal", n=2)
    counters.add(ACCEPTED, "bulk")
    counters.add(RETRIES, n=0)
    assert counters.told()["counts"] == {ACCEPTED.name: [[["normal"], 3], [["bulk"], 1]], RETRIES.name: [[[], 0]]}


def test_accounts_beyond_the_limit_are_one() -> None:
    counters = Counters(accounts=2)
    for identifier, name in (("1", "main"), ("2", "backup"), ("3", "third"), ("1", "renamed")):
        counters.add(ATTEMPTS, "delivered", *counters.account(identifier, name))
    assert counters.told()["counts"][ATTEMPTS.name] == [
        [["delivered", "main", "1"], 2],
        [["delivered", "backup", "2"], 1],
        [["delivered", "other", "other"], 1],
    ]


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.005, 0), (0.006, 1), (300.0, len(BUCKETS) - 1), (301.0, len(BUCKETS))]
)
def test_a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: int) -> None:
    counters = Counters()
    counters.observe("dot", seconds)
    ((labels, (*buckets, total)),) = counters.told()["histograms"][PHASES.name]
    assert (labels, buckets.index(1), sum(buckets), total) == (["dot"], bucket, 1, seconds)


def test_the_time_between_two_mails_is_no_time_of_a_reply() -> None:
    counters = Counters()
    timer = PhaseTimer(counters)
    timer._since -= 1000
    timer.begin()
    timer("mail", None, None)
    ((_, (*_, total)),) = counters.told()["histograms"][PHASES.name]
    assert 0 <= total < 1000


def test_a_gauge_is_read_when_the_counts_are() -> None:
    counters, waiting = Counters(), [3]
    counters.gauge(SEND_QUEUE, lambda: {("waiting",): waiting[0]})
    waiting[0] = 7
    assert counters.told()["gauges"] == {SEND_QUEUE.name: [[["waiting"], 7]]}
