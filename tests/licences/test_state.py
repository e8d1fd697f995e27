"""When a licence is in force."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailbbgun.licences.state import standing

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass
class Facts:
    not_before: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    superseded_at: datetime | None


#: When it begins, ends, was revoked and is superseded, in seconds from now.
STATES = {
    (-10, None, None, None): "valid",
    (0, 10, None, None): "valid",
    (60, None, None, None): "valid",  # clocks differ by a minute at most
    (61, None, None, None): "not_yet_valid",
    (-99, -59, None, None): "valid",
    (-99, -60, None, None): "expired",
    (-99, 10, None, 1): "valid",  # the renewal takes over later
    (-99, 10, None, 0): "superseded",
    (-99, -70, None, -80): "superseded",
    (-99, -70, -5, -80): "revoked",
    (99, None, 5, None): "revoked",
}


def test_a_licence_is_in_force_within_its_time_unless_revoked_or_superseded():
    for times, state in STATES.items():
        at = [None if one is None else NOW + timedelta(seconds=one) for one in times]
        assert standing(Facts(*at), NOW) == state, times
