"""Fair turns between routes and lanes, and bounded room."""

from collections import Counter
from uuid import uuid4

from mailbbgun.deliver.claim import Claim, Transaction
from mailbbgun.deliver.lines import Lines


def transaction(route: str = "a.test", lane: str = "normal") -> Transaction:
    claim = Claim(uuid4(), uuid4(), f"x@{route}", lane, 1, 0, 0, 0.0)
    return Transaction(claim.message_id, "f@x.test", False, b"", route, [claim])


def test_a_route_has_no_more_under_way_than_it_may():
    lines = Lines(100, 2)
    for _ in range(3):
        lines.add(transaction())
    first, second = lines.next(0), lines.next(0)
    assert first
    assert second
    assert lines.next(0) is None
    lines.done(first)
    assert lines.next(0) is not None


def test_a_slow_route_holds_back_only_its_own_mail():
    lines = Lines(100, 1)
    for _ in range(5):
        lines.add(transaction("slow.test"))
    lines.add(transaction("fast.test"))
    assert {lines.next(0).route, lines.next(0).route} == {"slow.test", "fast.test"}


def test_routes_take_turns():
    lines = Lines(100, 10)
    for route in ("a.test",) * 4 + ("b.test",) * 2:
        lines.add(transaction(route))
    assert [lines.next(0).route for _ in range(6)] == ["a.test", "b.test", "a.test", "b.test", "a.test", "a.test"]


def test_bulk_moves_and_high_goes_first():
    lines = Lines(1000, 1000)
    for _ in range(100):
        for lane in ("bulk", "high"):
            lines.add(transaction(lane=lane))
    first = Counter(lines.next(0).lane for _ in range(34))
    assert first == {"high": 32, "bulk": 2}


def test_room_counts_what_waits_and_what_is_under_way():
    lines = Lines(2, 2)
    assert lines.wait_for_room(0) == 2
    lines.add(transaction())
    taken = lines.next(0)
    lines.add(transaction())
    assert lines.wait_for_room(0) == 0
    lines.done(taken)
    assert lines.wait_for_room(0) == 1


def test_what_fills_the_room_while_senders_are_idle_is_put_out():
    lines = Lines(3, 1)
    for _ in range(3):
        lines.add(transaction("slow.test"))
    under_way = lines.next(0)
    assert lines.stuck() == []  # no sender waits: nothing is held back
    import threading

    waiter = threading.Thread(target=lines.next, args=(5.0,))
    waiter.start()
    while not (out := lines.stuck()):
        pass
    assert [one.route for one in out] == ["slow.test"] * 2
    assert lines.wait_for_room(0) == 2
    lines.done(under_way)
    waiter.join()


def test_closing_gives_back_what_waits_and_gives_out_nothing_more():
    lines = Lines(10, 10)
    for _ in range(3):
        lines.add(transaction())
    lines.next(0)
    assert len(lines.close()) == 2
    assert lines.next(0) is None
    assert lines.wait_for_room(0) == 0
