"""Gates, which an account's limits shut, hold back their own mail alone and are asked no more than they must."""

from uuid import UUID

import pytest

from mailbbgun.routing.send_queue import LOOK_SECONDS, SendQueue
from tests.routing.lining import Hands, following, lined_up, transaction


def shut(seconds):
    """Return a gate that stays shut for routes of "shut.test", for so many seconds."""
    return lambda route, waiting: seconds if route == "shut.test" else 0.0


def with_ways(*candidates):
    made = transaction("shut.test")
    made.candidates = list(candidates)
    return made


def test_a_transaction_before_a_shut_gate_leaves_only_if_it_has_another_route():
    lines = SendQueue(10, lambda _: 5, gate=shut(5.0))
    stays, goes = with_ways(), with_ways("other.test")
    lines.add([stays])
    lines.add([goes])
    assert following(lines) is None
    assert lines.take_out_shut(10.0, 60.0) == []
    assert lines.take_out_shut(2.0, 60.0) == [goes]
    assert lines.wait_for_room(0) == 9
    assert lines.close() == [stays]


def test_a_transaction_before_a_gate_shut_for_long_leaves_in_any_case():
    lines = SendQueue(10, lambda _: 5, gate=shut(3600.0))
    for one in (with_ways(), with_ways("other.test")):
        lines.add([one])
    assert following(lines) is None
    assert len(lines.take_out_shut(2.0, 60.0)) == 2
    assert lines.wait_for_room(0) == 10


def test_a_shut_gate_holds_back_its_own_route_alone():
    lines = SendQueue(10, lambda _: 5, gate=shut(3600.0))
    lines.add([with_ways()])
    lines.add([transaction("open.test")])
    assert following(lines).route == "open.test"
    assert following(lines) is None


def test_a_gate_that_is_shut_is_asked_at_its_time_or_when_there_are_new_permits(monkeypatch):
    clock, asked, waits = Hands(), [], [5.0, 4.0, 0.3, 0.0]

    def gate(route, waiting):
        asked.append(clock.now)
        return waits.pop(0)

    monkeypatch.setattr("mailbbgun.routing.send_queue.time", clock)
    lines = SendQueue(10, lambda _: 1, gate=gate)
    lined_up(lines, 2)
    assert lines.take(5) == []
    clock.now += 0.1
    assert (lines.take(5), len(asked)) == ([], 1)  # nothing has changed
    lines.permitted()
    assert (lines.take(5), len(asked)) == ([], 2)
    clock.now += LOOK_SECONDS  # accounts and their limits change
    assert (lines.take(5), len(asked)) == ([], 3)
    assert lines.again_in() == pytest.approx(0.3)
    clock.now += 0.3
    assert (len(lines.take(5)), len(asked)) == (1, 4)


def test_a_gate_whose_connections_are_all_busy_is_not_asked(monkeypatch):
    clock, waits = Hands(), [0.0, 0.05]
    monkeypatch.setattr("mailbbgun.routing.send_queue.time", clock)
    lines = SendQueue(10, lambda _: 1, gate=lambda route, waiting: waits.pop(0))
    lined_up(lines, 3)
    (going,) = lines.take(5)  # the only connection of the route is busy now
    clock.now += 10 * LOOK_SECONDS
    assert (lines.take(5), waits) == ([], [0.05])
    assert lines.again_in() == pytest.approx(LOOK_SECONDS)
    lines.done(going)
    assert (lines.take(5), waits) == ([], [])
    assert lines.again_in() == pytest.approx(0.05)


def test_what_was_taken_out_leaves_the_figures_of_its_route_as_they_are_without_it():
    lines = SendQueue(1000, lambda _: 1, gate=shut(3600.0), patience=0.0)
    for tenant in range(5):
        for lane in ("bulk", "high"):
            for number in range(4):
                one = transaction("shut.test", lane, UUID(int=tenant))
                one.candidates = ["other.test"] if number % 2 else []
                lines.add([one])
    assert lines.take(9) == []
    assert len(lines.take_out_shut(2.0, 7200.0)) == 20
    assert lines.wait_for_room(0) == 980
    assert len(lines.take_out_shut(2.0, 60.0)) == 20
    assert (lines.wait_for_room(0), lines.close()) == (1000, [])
