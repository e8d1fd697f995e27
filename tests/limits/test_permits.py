"""The arithmetic of permits: interval, burst, and the wait for the next permit."""

from uuid import UUID

import pytest

from mailbbgun.limits.permits import LEAST_INTERVAL, UNLIMITED, PermitRequest, SendingLimits, granted

ACCOUNT = UUID(int=1)


@pytest.mark.parametrize(
    ("limits", "interval", "burst"),
    [
        (SendingLimits(max_per_second=20), 0.05, 6),
        (SendingLimits(max_per_second=0.5), 2, 1.125),
        (SendingLimits(max_per_minute=60), 1, 1.25),
        (SendingLimits(max_per_second=20, max_per_minute=60), 1, 1.25),
        (SendingLimits(max_per_second=1, max_per_minute=600), 1, 1.25),
        (SendingLimits(send_interval=3), 3, 1),
        (SendingLimits(send_interval=0.1, max_per_second=2), 0.5, 1),
        (SendingLimits(send_interval=2, max_per_minute=600, max_per_day=5), 2, 1),
        (SendingLimits(max_per_day=500), LEAST_INTERVAL, 2501),
    ],
)
def test_the_longest_interval_counts_and_the_burst_is_one_mail_and_those_of_a_quarter_of_a_second(
    limits: SendingLimits, interval: float, burst: float
) -> None:
    assert (limits.interval, limits.burst) == pytest.approx((interval, burst))


@pytest.mark.parametrize("rate", [0.8, 1, 3, 20, 500])
def test_thirty_seconds_never_have_more_than_five_percent_over_the_rate(rate: float) -> None:
    limits = SendingLimits(max_per_second=rate)
    assert limits.burst + 30 / limits.interval <= 1.05 * 30 * rate


def test_no_limit_is_no_limit() -> None:
    assert not SendingLimits().any
    assert SendingLimits().per_day == UNLIMITED
    assert SendingLimits(max_per_day=3).any
    assert SendingLimits(max_per_day=3).per_day == 3


@pytest.mark.parametrize("name", ["max_per_second", "max_per_minute", "max_per_day", "send_interval"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_lets_nothing_through_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="more than zero"):
        SendingLimits(**{name: value})


@pytest.mark.parametrize(
    ("limits", "used", "ahead", "wait"),
    [
        (SendingLimits(max_per_second=20), 6, 0.3, 0.05),  # the burst is used up: one interval
        (SendingLimits(max_per_second=20), 2, 0.1, 0.0),  # the burst has more
        (SendingLimits(send_interval=3), 1, 3.0, 3.0),
        (SendingLimits(send_interval=3), 1, 0.5, 0.5),
        (SendingLimits(max_per_day=5), 5, 0.0, 7200),  # until the end of the day
        (SendingLimits(max_per_day=5), 7, 0.0, 7200),  # the limit was lowered
        (SendingLimits(max_per_day=5, send_interval=3), 4, 2.0, 2.0),
        (SendingLimits(max_per_day=5, send_interval=9000), 5, 9000, 9000),  # the interval ends tomorrow
    ],
)
def test_the_wait_is_until_one_more_may_go(limits: SendingLimits, used: int, ahead: float, wait: float) -> None:
    permit = granted(PermitRequest(ACCOUNT, 9, limits), 1, used, ahead, 7200)
    assert (permit.account_id, permit.n, permit.wait) == (ACCOUNT, 1, pytest.approx(wait))
