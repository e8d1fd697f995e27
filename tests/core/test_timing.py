"""When a message is to be sent, and until when it is useful: by table."""

from datetime import UTC, datetime, timedelta

import pytest
from marshmallow import ValidationError

from mailbbgun.core.timing import NOW, Timing, faults, timing
from mailbbgun.http.schemas import Moment

TIME = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-12-24T08:00:00+01:00", datetime(2026, 12, 24, 7, tzinfo=UTC)),
        (" 2026-12-24t08:00:00z ", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        ("2026-12-24T08:00:00.5Z", datetime(2026, 12, 24, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
        ("Thu, 24 Dec 2026 08:00:00 +0100", datetime(2026, 12, 24, 7, tzinfo=UTC)),
        ("24 Dec 2026 08:00 GMT", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        ("Thu, 24 Dec 2026 08:00:00 -0000", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        ("Thu, 24 Dec 2026 08:00:00 +0100 (CET)", datetime(2026, 12, 24, 7, tzinfo=UTC)),
        (1_798_099_200, datetime(2026, 12, 24, 8, tzinfo=UTC)),
        (1_798_099_200.5, datetime(2026, 12, 24, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("1798099200", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_each_form_that_applications_have(given, moment):
    assert Moment().deserialize(given) == moment


@pytest.mark.parametrize(
    "given",
    [
        "", "soon", "tomorrow 8am", "2026-12-24T08:00:00", "2026-02-30", "Wed, 30 Feb 2026 08:00:00 +0000",
        "24 Foo 2026 08:00:00 +0000", "Thu, 24 Dec 2026 08:00:00 +9999", True, False, [], {}, [1], 1e300,
        float("nan"), float("inf"), -1e300, 10**30, "9" * 400, "２０２６-12-24T08:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused(given):
    with pytest.raises(ValidationError):
        Moment().deserialize(given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((None, None, None), NOW),
        ((TIME - HOUR, None, None), NOW),  # the past is now
        ((TIME + HOUR, None, None), Timing(TIME + HOUR)),
        ((None, TIME + HOUR, None), Timing(None, TIME + HOUR)),
        ((None, None, 3600), Timing(None, TIME + HOUR)),
        ((TIME + HOUR, None, 3600), Timing(TIME + HOUR, TIME + 2 * HOUR)),  # from its sending time on
        ((TIME - HOUR, None, 3600), Timing(None, TIME + HOUR)),
    ],
)
def test_the_times_of_a_message_follow_from_what_a_client_gives(given, wanted):
    assert timing(*given, TIME) == wanted


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ((None, None, None), []),
        ((TIME + 30 * 24 * HOUR, None, None), []),
        ((TIME + 30 * 24 * HOUR + timedelta(seconds=1), None, None), ["send_at"]),
        ((TIME - 9999 * HOUR, None, None), []),
        ((None, TIME, None), ["useful_until"]),
        ((TIME + HOUR, TIME + HOUR, None), ["useful_until"]),
        ((TIME + HOUR, TIME + 2 * HOUR, None), []),
        ((TIME - HOUR, TIME + HOUR, None), []),
        ((None, TIME + HOUR, 60), ["ttl"]),
        ((TIME + 999 * HOUR, TIME - HOUR, 60), ["send_at", "ttl", "useful_until"]),
    ],
)
def test_times_at_which_a_message_would_never_be_sent_are_refused(given, fields):
    assert [field for field, _ in faults(*given, now=TIME, days=30)] == fields
