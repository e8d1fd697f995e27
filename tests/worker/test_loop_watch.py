"""A loop that stands still is noticed."""

import logging
import threading
from time import monotonic

import pytest

from mailbbgun.drivers.loop import Loop
from mailbbgun.worker.delivery import LoopWatch
from tests.waiting import wait_until


def test_a_loop_that_turns_does_not_stand_still() -> None:
    loop = Loop()
    watch = LoopWatch(loop, 0.0)
    for _ in range(3):
        loop.turn(0.0)
        assert not watch.stands_still()


def test_a_turn_that_is_seen_twice_and_is_old_is_a_loop_that_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    loop, go_on = Loop(), threading.Event()
    stuck = threading.Event()

    def blocks() -> None:
        stuck.set()
        go_on.wait()

    loop.call(blocks)
    thread = threading.Thread(target=loop.turn, args=(0.0,))
    thread.start()
    stuck.wait()
    watch, patient = LoopWatch(loop, 0.0), LoopWatch(loop, 3600.0)
    with caplog.at_level(logging.CRITICAL):
        assert not watch.stands_still()  # this turn is seen for the first time
        assert watch.stands_still()
        assert [patient.stands_still(), patient.stands_still()] == [False, False]
    assert caplog.records[-1].getMessage() == "loop_stands_still"
    assert "go_on.wait()" in vars(caplog.records[-1])["at"]
    go_on.set()
    thread.join()
    before = loop.turned
    wait_until(lambda: monotonic() > before)
    loop.turn(0.0)
    assert not watch.stands_still()
