"""A short run of the program that talks nonsense to the door: fuzz.py."""

from pathlib import Path

import pytest

from tests.flow.service import until
from tests.smtpd.fuzz import MB, fuzzing
from tests.smtpd.gauges import DoorFigures

pytestmark = pytest.mark.long

WARM, SESSIONS = 100, 400


def test_clients_that_follow_no_grammar_leave_nothing_behind(tmp_path: Path) -> None:
    with fuzzing(tmp_path) as run, run.watched():
        run.sessions_of(iter(range(WARM)))  # threads are started, and memory that is kept is taken
        before = DoorFigures(run.door)
        run.sessions_of(iter(range(WARM, WARM + SESSIONS)))
        until(lambda: DoorFigures(run.door).files <= before.files + 5, what="the end of all connections")
        after = DoorFigures(run.door)
        assert after.memory - before.memory < 30 * MB
        assert after.threads <= before.threads + 8  # those of the pools, which have bounds
    run.check()
    assert run.faults == []
    assert run.stored
    assert run.sessions == WARM + SESSIONS
