"""The state of an incident, by tables of looks: a figure and the seconds since the look before."""

from datetime import UTC, datetime, timedelta

import pytest

from mailbbgun.alerts.figures.look import usual
from mailbbgun.alerts.state import MOST_BETWEEN_LOOKS, Change, Condition, IncidentState, RuleState, step

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
PLAIN = Condition(10, 10)
SLOW = Condition(10, 5, for_seconds=30, resolve_seconds=20)
OK, PENDING, FIRING, RESOLVING = IncidentState.OK, IncidentState.PENDING, IncidentState.FIRING, IncidentState.RESOLVING
FIRED, RESOLVED = Change.FIRED, Change.RESOLVED


def looks(condition, *given):
    """Look at figures, each so many seconds after the last one; return states, changes in the log, and notices."""
    standing, now, states, changes, told = RuleState(), NOON, [], [], []
    for value, seconds, *silenced in given:
        now += timedelta(seconds=seconds)
        standing, change, notice = step(condition, standing, value, now, silenced=bool(silenced))
        states.append(standing.state)
        changes += [change] if change else []
        told += [notice] if notice else []
    return states, changes, told


@pytest.mark.parametrize(
    ("condition", "given", "states", "told"),
    [
        pytest.param(PLAIN, [(9, 0), (10, 15), (9.9, 15)], [OK, FIRING, OK], [FIRED, RESOLVED], id="at once"),
        pytest.param(PLAIN, [(None, 0), (99, 15), (None, 15)], [OK, FIRING, OK], [FIRED, RESOLVED], id="no figure"),
        pytest.param(SLOW, [(10, 0), (10, 15), (10, 15)], [PENDING, PENDING, FIRING], [FIRED], id="for a duration"),
        pytest.param(SLOW, [(10, 0), (9, 29), (10, 1), (10, 29)], [PENDING, OK, PENDING, PENDING], [], id="a break"),
        pytest.param(
            SLOW,
            [(10, 0), (10, 30), (7, 30), (10, 30), (5, 30)],
            [PENDING, FIRING, FIRING, FIRING, FIRING],
            [FIRED],
            id="hysteresis",
        ),
        pytest.param(
            SLOW,
            [(10, 0), (10, 30), (4, 15), (4, 15), (4, 5)],
            [PENDING, FIRING, RESOLVING, RESOLVING, OK],
            [FIRED, RESOLVED],
            id="back for a duration",
        ),
        pytest.param(
            SLOW,
            [(10, 0), (10, 30), *[(4, 15), (11, 15)] * 20, (4, 15), (4, 20)],
            [PENDING, FIRING, *[RESOLVING, FIRING] * 20, RESOLVING, OK],
            [FIRED, RESOLVED],
            id="flapping is one incident",
        ),
        pytest.param(
            SLOW, [(10, 0), (10, 5), (10, -3600), (10, 24), (10, 1)], [PENDING] * 4 + [FIRING], [FIRED], id="clock back"
        ),
        pytest.param(
            Condition(10, 10, for_seconds=300),
            [(10, 0), (10, 10), (10, 86_400), (10, 60), (10, 60), (10, 60), (10, 50)],
            [PENDING] * 6 + [FIRING],
            [FIRED],
            id="clock ahead, or a night without workers",
        ),
        pytest.param(
            PLAIN, [(10, 0, True), (10, 15, True), (10, 15)], [FIRING] * 3, [FIRED], id="told when the silence ends"
        ),
        pytest.param(PLAIN, [(10, 0, True), (1, 15, True), (1, 15)], [FIRING, OK, OK], [], id="over before that"),
        pytest.param(
            PLAIN, [(10, 0), (10, 15, True), (1, 15, True)], [FIRING, FIRING, OK], [FIRED, RESOLVED], id="told before"
        ),
    ],
)
def test_an_incident_begins_and_ends_as_its_rule_says(condition, given, states, told):
    found, changes, notices = looks(condition, *given)
    assert (found, notices) == (states, told)
    assert changes in ([], [FIRED], [FIRED, RESOLVED])  # the log has each change once, whoever was told
    assert (FIRED in changes) == any(one in (FIRING, RESOLVING) for one in states)


def test_a_restart_in_the_middle_keeps_what_was_seen():
    before = RuleState(PENDING, held=25, seen_at=NOON)
    after, change, _ = step(SLOW, before, 10, NOON + timedelta(hours=9))
    assert (after.state, change) == (FIRING, FIRED)
    waiting = step(Condition(10, 10, for_seconds=25 + MOST_BETWEEN_LOOKS + 1), before, 10, NOON + timedelta(hours=9))
    assert (waiting.standing.state, waiting.standing.held) == (PENDING, 25 + MOST_BETWEEN_LOOKS)


@pytest.mark.parametrize(
    ("hours", "first", "expected"),
    [
        pytest.param({}, None, None, id="no past"),
        pytest.param({}, 23, None, id="less than a day"),
        pytest.param(dict.fromkeys(range(1, 50), 6), 25, 6, id="a day"),
        pytest.param({ago: 240 if ago % 24 == 0 else 0 for ago in range(1, 200)}, 190, 240, id="busy at this hour"),
        pytest.param({ago: 240 if ago % 24 == 5 else 0 for ago in range(1, 200)}, 190, 10, id="busy at another hour"),
    ],
)
def test_the_usual_volume_is_that_of_the_last_week(hours, first, expected):
    now = 1_000_000 * 3600 + 1234
    begin = now - 1234
    counted = {begin - ago * 3600: n for ago, n in hours.items()}
    assert usual(counted, None if first is None else begin - first * 3600, now) == expected
