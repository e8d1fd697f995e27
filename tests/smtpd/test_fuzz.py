"""A short run of the program that talks nonsense to the door: fuzz.py."""

from pathlib import Path

import pytest

from tests.flow.service import until
from tests.smtpd.fuzz import MB, fuzzing
from tests.smtpd.gauges import DoorFigures

pytestmark = pytest.mark.long

#: Sessions of a round, and rounds until the door takes no more memory, at most.
SESSIONS, MOST_ROUNDS = 100, 12
#: What two rounds may add once the memory is steady: 20 KB a session. The buffer of a TLS connection is 256 KB.
STEADY = 4 * MB
#: Files and threads that pools may add after the start. Both have bounds.
OF_POOLS = 24


def test_clients_that_follow_no_grammar_leave_nothing_behind(tmp_path: Path) -> None:
    with fuzzing(tmp_path) as run, run.watched():
        start = DoorFigures(run.door)
        memory: list[int] = []
        # The C library keeps what all clients together held at once, so the memory grows in steps, more and more
        # seldom. What a session leaves behind would let every round grow, and none would be the last.
        while len(memory) < 3 or (memory[-1] - memory[-3] >= STEADY and len(memory) < MOST_ROUNDS):
            first = len(memory) * SESSIONS
            run.sessions_of(iter(range(first, first + SESSIONS)))
            until(lambda: DoorFigures(run.door).files <= start.files + OF_POOLS, what="the end of all connections")
            memory.append(DoorFigures(run.door).memory)
        assert memory[-1] - memory[-3] < STEADY, [one // MB for one in memory]
        assert DoorFigures(run.door).threads <= start.threads + OF_POOLS
    run.check()
    assert run.faults == []
    assert run.stored
    assert run.sessions == len(memory) * SESSIONS
