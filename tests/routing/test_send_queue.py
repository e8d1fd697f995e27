"""The send queue gives fair turns to routes and lanes, and is bounded."""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from mailbbgun.routing.pace import WINDOW, Throughput
from mailbbgun.routing.send_queue import ROOM_PER_CONNECTION, SendQueue
from tests.routing.lining import Hands, following, idle_sender, lined_up, transaction
from tests.waiting import PATIENCE, at_least, bounded, pause


def test_a_route_has_no_more_under_way_than_it_may():
    lines = SendQueue(100, lambda _: 2)
    for _ in range(3):
        lines.add([transaction()])
    first, second = following(lines), following(lines)
    assert first
    assert second
    assert following(lines) is None
    lines.done(first)
    assert following(lines) is not None


def test_a_slow_route_holds_back_only_its_own_mail():
    lines = SendQueue(100, lambda _: 1)
    for _ in range(5):
        lines.add([transaction("slow.test")])
    lines.add([transaction("fast.test")])
    assert {following(lines).route, following(lines).route} == {"slow.test", "fast.test"}


def test_some_routes_have_fewer_under_way_than_others():
    lines = SendQueue(100, lambda route: 1 if route == "test" else 3)
    for _ in range(3):
        lines.add([transaction("test")])
        lines.add([transaction("a.test")])
    taken = [following(lines) for _ in range(4)]
    assert Counter(one.route for one in taken) == {"test": 1, "a.test": 3}
    assert following(lines) is None
    lines.done(next(one for one in taken if one.route == "test"))
    assert following(lines).route == "test"


def test_routes_take_turns():
    lines = SendQueue(100, lambda _: 10)
    for route in ("a.test",) * 4 + ("b.test",) * 2:
        lines.add([transaction(route)])
    assert [following(lines).route for _ in range(6)] == ["a.test", "b.test", "a.test", "b.test", "a.test", "a.test"]


def test_bulk_moves_and_high_goes_first():
    lines = SendQueue(1000, lambda _: 1000)
    for _ in range(100):
        for lane in ("bulk", "high"):
            lines.add([transaction(lane=lane)])
    first = Counter(following(lines).lane for _ in range(34))
    assert first == {"high": 32, "bulk": 2}


def test_many_taken_at_once_are_those_taken_one_by_one():
    one_by_one, at_once = SendQueue(1000, lambda _: 1000), SendQueue(1000, lambda _: 1000)
    added = [
        transaction(route, lane, UUID(int=tenant))
        for route in ("a.test", "b.test", "c.test")
        for lane in ("bulk", "high", "normal")
        for tenant in (1, 2)
        for _ in range(6)
    ]
    for lines in (one_by_one, at_once):
        lines.add(added)
    together = [*at_once.take(7), *at_once.take(30), *at_once.take(200)]
    assert [following(one_by_one) for _ in added] == together
    assert (one_by_one.take(5), at_once.take(5)) == ([], [])


def test_room_counts_what_waits_and_what_is_under_way():
    lines = SendQueue(2, lambda _: 2)
    assert lines.wait_for_room(0) == 2
    lines.add([transaction()])
    taken = following(lines)
    lines.add([transaction()])
    assert lines.wait_for_room(0) == 0
    lines.done(taken)
    assert lines.wait_for_room(0) == 1


def test_a_slow_line_is_cut_if_it_fills_the_room_while_a_sender_is_idle():
    lines = SendQueue(9, lambda _: 1, patience=0.2)
    lined_up(lines, 1)
    assert following(lines)
    bulk, high = lined_up(lines, 5, lane="bulk"), lined_up(lines, 3, lane="high")
    pause(0.3)
    assert lines.cut() == []  # no sender waits: nothing is held back
    with idle_sender(lines):
        assert lines.wait_for_room(5) == 0
        assert lines.cut() == [*high[1:], *bulk[1:]]  # two stay, one of each lane
        assert lines.cut() == []
        assert lines.wait_for_room(0) == 6
        lined_up(lines, 6)
        with bounded("a wait for room of a line whose head has waited"):
            assert lines.wait_for_room(2 * PATIENCE) == 0
        assert len(lines.cut()) == 6
        assert [one.lane for one in lines.close()] == ["high", "normal"]


def test_a_route_with_few_connections_keeps_fewer_when_its_line_is_cut():
    lines = SendQueue(8, lambda route: 1 if route == "test" else 4, patience=0.0)
    for _ in range(8):
        lines.add([transaction("test")])
    assert following(lines)
    with idle_sender(lines):
        assert len(lines.cut()) == 5


def test_a_line_is_not_cut_before_its_head_has_waited():
    lines = SendQueue(4, lambda _: 1, patience=0.2)
    lined_up(lines, 4)
    assert following(lines)
    with idle_sender(lines):
        with at_least(0.1):
            while not lines.cut():
                lines.wait_for_room(0.05)


def test_a_line_that_moves_is_not_cut_nor_one_as_short_as_a_cut_leaves_it(monkeypatch):
    clock = Hands()
    monkeypatch.setattr("mailbbgun.routing.send_queue.time", clock)
    lines = SendQueue(9, lambda _: 1, patience=0.6)
    lined_up(lines, 3, "short.test")
    lined_up(lines, 6, "moving.test")
    short, moving = following(lines), following(lines)
    assert (short.route, moving.route) == ("short.test", "moving.test")
    lines._idle = 1  # a second connection, which has nothing to do
    for _ in range(50):
        clock.now += 0.02
        assert lines.cut() == []
        lines.done(moving)
        moving = following(lines)
        lined_up(lines, 1, "moving.test")


def test_a_slow_line_of_urgent_mail_is_cut_before_it_keeps_other_urgent_mail_away():
    lines = SendQueue(16, lambda _: 1, patience=0.0)
    lined_up(lines, 12, lane="high")
    assert following(lines)
    assert lines.wait_for_room(0, urgent=True) == 0
    assert lines.wait_for_room(0) == 4  # the rest stays free of it
    with idle_sender(lines):
        assert len(lines.cut()) == 9
        assert lines.wait_for_room(0, urgent=True) == 9


def test_a_wait_for_room_ends_at_once_when_a_sender_becomes_idle():
    lines = SendQueue(4, lambda _: 1, patience=0.0)
    lined_up(lines, 4)
    assert following(lines)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lines.wait_for_room, 2 * PATIENCE)
        pause(0.1)
        with bounded("a wait for room"), idle_sender(lines):
            assert waiting.result() == 0
            assert len(lines.cut()) == 1


def test_closing_gives_back_what_waits_and_gives_out_nothing_more():
    lines = SendQueue(10, lambda _: 10)
    for _ in range(3):
        lines.add([transaction()])
    following(lines)
    assert len(lines.close()) == 2
    assert following(lines) is None
    assert lines.wait_for_room(0) == 0


def test_tenants_who_share_a_route_take_turns():
    lines = SendQueue(100, lambda _: 100)
    for number in (1, 1, 1, 2):
        one = transaction("a.test")
        one.claims[0].tenant_id = UUID(int=number)
        lines.add([one])
    assert [following(lines).tenant_id.int for _ in range(4)] == [1, 2, 1, 1]


def test_a_line_that_was_cut_takes_no_more_than_a_cut_leaves():
    lines = SendQueue(4, lambda _: 1, patience=0.0)
    for _ in range(4):
        lines.add([transaction("a.test")])
    assert following(lines)
    with idle_sender(lines):
        assert lines.cut()
        assert not lines.takes("a.test")
        assert lines.takes("b.test")


def test_a_route_that_is_answered_in_bursts_is_not_measured_faster_than_it_is():
    pace = Throughput(0.0)
    for tick in range(1, 400):
        now = tick / 10
        if tick % 10 == 0:
            for _ in range(7):
                pace.went(now)
        if now > 2 * WINDOW:
            assert 5 < pace.at(now) < 9
    assert pace.at(now + 10 * WINDOW) < 1


def test_a_slow_line_leaves_room_for_others_however_fast_it_was():
    lines = SendQueue(40, lambda _: 4, patience=0.0)
    for _ in range(40):
        lines.add([transaction("a.test")])
    for _ in range(20):  # in no time at all
        lines.done(following(lines))
        lines.add([transaction("a.test")])
    for _ in range(4):
        assert following(lines)
    with idle_sender(lines):
        assert len(lines.cut()) == 36 - 40 * 3 // 4


def test_one_tenants_slow_accounts_do_not_keep_every_sender():
    ours, theirs = uuid4(), uuid4()
    lines = SendQueue(
        12,
        lambda route: 3,
        patience=0.0,
        connections_per_tenant=lambda route: 4 if route.startswith("account") else 100,
    )
    for route in ("account:a", "account:b", "account:c"):
        for _ in range(4):
            lines.add([transaction(route, tenant=ours)])
    taken = [following(lines) for _ in range(4)]
    assert all(taken)
    assert following(lines) is None  # each account has a free connection, but their tenant has none
    lines.add([transaction("account:d", tenant=theirs)])
    lines.add([transaction("elsewhere", tenant=ours)])
    others = [following(lines), following(lines)]
    assert {one.route for one in others} == {"account:d", "elsewhere"}
    for one in (*others, taken[0]):
        lines.done(one)
    assert following(lines).tenant_id == ours
    assert following(lines) is None


def test_lines_of_accounts_whose_tenant_has_no_connection_to_spare_are_cut():
    lines = SendQueue(12, lambda route: 3, patience=0.0, connections_per_tenant=lambda route: 1)
    for _ in range(12):
        lines.add([transaction("account:a")])
    assert following(lines)
    with idle_sender(lines):
        assert len(lines.cut()) == 12 - 1 - 6


def test_all_routes_of_a_kind_have_bounds_together_which_other_mail_does_not_feel():
    ours, theirs = uuid4(), uuid4()
    lines = SendQueue(
        200,
        lambda route: 2,
        connections_per_tenant=lambda route: {"post": 4, "account": 6}.get(route.partition(":")[0], sys.maxsize),
        connections_of_kind=lambda route: 5 if route.startswith("post:") else sys.maxsize,
    )
    posts = [transaction(f"post:{number}", tenant=ours) for number in range(100)]
    refused = lines.add(posts)
    assert refused == posts[4 * ROOM_PER_CONNECTION :]  # the rest of the room is for others
    of_others = [transaction(f"post:other {number}", tenant=theirs) for number in range(10)]
    assert lines.add(of_others) == of_others[ROOM_PER_CONNECTION:]
    taken = lines.take(100)
    assert sorted(Counter(one.tenant_id for one in taken).values()) in ([1, 4], [2, 3])
    lines.add([transaction("account:a", tenant=ours), transaction("a.test", tenant=ours)])
    assert {one.route for one in lines.take(100)} == {"account:a", "a.test"}
    for one in taken:
        lines.done(one)
    assert len(lines.take(100)) == 5
    lines.close()
    assert len(lines.add(posts)) < len(refused) + 4 + 1  # what was taken out and what is done make room


def test_mail_of_high_priority_has_a_reserve_in_a_full_queue_and_leaves_room_for_other_mail():
    lines = SendQueue(100, lambda _: 1000)
    bulk = lined_up(lines, 100, lane="bulk")
    assert lines.wait_for_room(0.0) == 0
    assert lines.wait_for_room(0.0, urgent=True) == 25
    lined_up(lines, 25, lane="high")
    assert lines.wait_for_room(0.0, urgent=True) == 0
    going = lines.take(1000)
    assert len(going) == 125
    for one in going:
        if one in bulk:
            lines.done(one)
    assert lines.wait_for_room(0.0, urgent=True) == 50
    lined_up(lines, 50, lane="high")
    assert lines.wait_for_room(0.0, urgent=True) == 0  # 75 are all that high priority may have
    assert lines.wait_for_room(0.0) == 25
    lines.close()
    assert lines.wait_for_room(0.0, urgent=True) == 0
