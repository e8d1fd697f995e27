"""Which period a question is about."""

from datetime import UTC, datetime

import pytest

from mailbbgun.core.errors import InvalidInput
from mailbbgun.statistics.counting import DAY, HOUR
from mailbbgun.statistics.period import Kept, period

NOW = datetime(2026, 3, 31, 12, 30, 5, tzinfo=UTC)
KEPT = Kept(minute=3, hour=92, day=None)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "begin", "end", "interval", "coarsest"),
    [
        ({}, "2026-03-02", "2026-04-01", "day", "day"),
        ({"days": 1}, "2026-03-31", "2026-03-31T13:00", "hour", "day"),
        ({"days": 1, "interval": "minute"}, "2026-03-31", "2026-03-31T12:31", "minute", "day"),
        ({"days": 30, "interval": "hour"}, "2026-03-02", "2026-03-31T13:00", "hour", "day"),
        ({"begin": at("2026-03-31T11:10")}, "2026-03-31T11:10", "2026-03-31T12:31", "minute", "minute"),
        (
            {"begin": at("2026-03-01T01:30"), "end": at("2026-03-02T01:30")},
            *("2026-03-01T01:00", "2026-03-02T02:00", "hour", "hour"),
        ),
        ({"begin": at("2020-01-01"), "end": at("2020-01-03")}, "2020-01-01", "2020-01-03", "day", "day"),
        ({"days": 2, "end": at("2026-01-03")}, "2026-01-01", "2026-01-03", "hour", "day"),
    ],
)
def test_a_period_begins_and_ends_with_an_interval(asked, begin, end, interval, coarsest):
    found = period(NOW, KEPT, **asked)
    times = [at(begin).timestamp(), at(end).timestamp()]
    assert ([found.begin, found.end], found.interval, found.coarsest) == (times, interval, coarsest)
    assert found.starts[0] == found.begin


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"days": 2, "begin": at("2026-03-01")}, "days", "name one of them"),
        ({"begin": at("2026-05-01")}, "from", "is not before 2026-03-31T12:30:05Z"),
        ({"days": 7, "interval": "minute"}, "interval", "would make 9391 intervals"),
        ({"days": 90, "interval": "minute"}, "interval", "choose a longer interval"),
        ({"begin": at("2025-12-01"), "end": at("2025-12-02"), "interval": "hour"}, "from", "kept for 92 days"),
    ],
)
def test_a_period_that_cannot_be_answered_is_refused_with_what_would_be_right(asked, field, sentence):
    with pytest.raises(InvalidInput) as refused:
        period(NOW, KEPT, **asked)
    assert sentence in refused.value.fields[field][0]


def test_days_that_are_kept_shorter_than_hours_are_not_read_instead_of_them():
    kept = Kept(minute=3, hour=92, day=5)
    asked = {"begin": at("2026-03-02"), "end": at("2026-03-04"), "interval": "hour"}
    assert period(NOW, kept, **asked).coarsest == "hour"
    assert kept.since("day", NOW.timestamp()) % DAY == 0
    assert kept.since("hour", NOW.timestamp()) % HOUR == 0
