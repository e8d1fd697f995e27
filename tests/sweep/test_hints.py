"""The sweep hints the right rows again, and so many at once."""

import pytest
from sqlalchemy import event, text, update

from bench.fill import fill
from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.database.compiled import InSession
from mailbbgun.database.db import db_now
from mailbbgun.deliver.claim import put_early_back
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.publisher import mark_published
from mailbbgun.queues.embedded import Embedded
from mailbbgun.queues.lanes import LANES
from mailbbgun.sweep.hints import NEARLY_EMPTY, PASS, count, hint_again, lost, overdue, unhinted
from mailbbgun.sweep.replay import Expired
from mailbbgun.sweep.sweep import sweep


def messages_of(store, deliveries):
    return {store.row(identifier).message_id for identifier in deliveries}


@pytest.mark.parametrize(
    ("which", "row", "hinted"),
    [
        (unhinted, {"due": -2}, True),
        (unhinted, {"due": 0}, False),  # the API has a second to publish the hint
        (unhinted, {"due": 100}, False),
        (unhinted, {"due": -100, "hinted": -99}, False),
        (unhinted, {"due": -100, "status": "DELIVERED"}, False),
        (unhinted, {"due": -2, "attempt": 1}, True),  # a retry after a wait that no delay queue has
        (overdue, {"due": -61, "hinted": -661}, True),
        (overdue, {"due": -59, "hinted": -659}, False),  # the delay queue's hint may be that late
        (overdue, {"due": -61, "hinted": -60}, False),  # this hint is on the work queue
        (overdue, {"due": -61}, False),
    ],
)
def test_what_is_due_and_has_no_hint_on_its_way_is_hinted(store, which, row, hinted):
    rows = store.add(**row)
    assert hint_again(store.services.db, store.services.queue, which()) == int(hinted)
    assert set(store.hints()) == (messages_of(store, rows) if hinted else set())
    if hinted:
        assert store.row(rows[0]).published_at >= store.row(rows[0]).next_attempt_at
        assert hint_again(store.services.db, store.services.queue, which()) == 0, "marked, so not again"


def test_what_a_worker_holds_is_left_to_it(store, owner):
    store.claimed(owner, due=-100, hinted=None)
    assert hint_again(store.services.db, store.services.queue, unhinted()) == 0


def test_a_healthy_backlog_is_not_touched(store):
    rows = store.add(NEARLY_EMPTY + 200, due=-3600, hinted=-3600)
    store.services.queue.publish("normal", list(messages_of(store, rows[:1])) * (NEARLY_EMPTY + 200))
    sweep(store.services, Expired(store.services.db, store.services.settings))
    assert store.services.queue.depth()["normal"] == NEARLY_EMPTY + 200


def test_a_lane_that_holds_as_many_hints_as_rows_wait_is_not_touched_and_one_with_fewer_is(store):
    waiting = store.add(30, due=-3600, hinted=-3600)
    store.services.queue.publish("normal", list(messages_of(store, waiting)))
    store.services.queue.publish("bulk", list(messages_of(store, store.add(29, lane="bulk", due=-3600, hinted=-3600))))
    gone = store.add(1, lane="bulk", due=-3600, hinted=-3600)
    fresh = store.add(1, lane="high", due=-30, hinted=-30)
    sweep(store.services, Expired(store.services.db, store.services.settings))
    assert store.services.queue.depth() == {"high": 0, "normal": 30, "crowd": 0, "bulk": 59}
    hints = store.hints()
    assert messages_of(store, gone) <= set(hints)
    assert not messages_of(store, fresh) & set(hints)
    sweep(store.services, Expired(store.services.db, store.services.settings))
    # The hints of these are gone by now; the others were hinted a moment ago.
    assert set(store.hints()) == messages_of(store, waiting)


class AtMost(Embedded):
    """A queue that knows only how many hints it may hold at most, like one with bunches."""

    most = 0

    def depth(self):
        return super().depth() | {"normal": self.most}


@pytest.mark.parametrize(
    ("waiting", "most", "found"),
    [
        (5, 0, True),
        (5, 16, False),  # perhaps a bunch of one, and four hints lost: found when that one is taken
        (16, 16, False),
        (17, 16, True),
        (NEARLY_EMPTY + 200, 62 * 16, True),
        (NEARLY_EMPTY + 200, 63 * 16, False),  # some are lost for certain, but a lane this deep is left alone
        (NEARLY_EMPTY + 200, 75 * 16, False),
    ],
)
def test_a_loss_is_one_only_if_even_the_most_that_a_lane_may_hold_is_less_than_what_waits(store, waiting, most, found):
    store.add(waiting, due=-3600, hinted=-3600)
    queue = AtMost(store.services.db, ())
    queue.most = most
    assert [stranded.lane for stranded in lost(store.services.db, queue)] == ["normal"] * found


@pytest.mark.parametrize(
    ("row", "again"),
    [
        ({"due": 100, "hinted": -5}, 1),  # a delay hint is under way; the tick's hint is one too many then
        ({"due": -5, "hinted": -4}, 1),  # its tenant has become active since the claim
        ({"due": -100, "hinted": -99, "status": "DELIVERED"}, 0),
    ],
)
def test_a_hint_that_came_again_with_its_bunch_costs_one_hint_at_the_most(store, row, again):
    rows = store.add(**row)
    for _ in range(3):
        with store.services.db.write() as session:
            put_early_back(InSession(session), list(messages_of(store, rows)))
    assert (store.row(rows[0]).published_at is None) == bool(again)
    with store.services.db.write() as session:
        session.execute(update(Delivery).where(Delivery.id == rows[0]).values(next_attempt_at=db_now(-2)))
    assert hint_again(store.services.db, store.services.queue, unhinted()) == again
    assert hint_again(store.services.db, store.services.queue, unhinted()) == 0


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_what_is_lost_is_looked_for_in_its_own_index_even_when_statistics_say_that_all_is(store):
    db, statements = store.services.db, []
    fill(db, 10_000)
    long_ago = (
        "UPDATE deliveries SET published_at = now() - interval '1 hour', next_attempt_at = now() - interval '1 hour'"
    )
    quiet, gone = "ALTER TABLE deliveries SET (autovacuum_enabled = off)", "UPDATE deliveries SET status = 'DELIVERED'"
    for statement in (quiet, long_ago, "ANALYZE deliveries", gone):
        with db.write() as session:
            session.execute(text(statement))
    event.listen(db.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2:4]))
    assert lost(db, store.services.queue) == []
    asked = [(statement, given) for statement, given in statements if "published_at <" in statement]
    assert len(asked) == len(LANES)
    with db.read() as session:
        for statement, given in asked:
            plan = "\n".join(row[0] for row in session.connection().exec_driver_sql(f"EXPLAIN {statement}", given))
            assert "ix_deliveries_hinted" in plan, plan


@pytest.mark.parametrize(
    ("recipients", "counted"), [(1, NEARLY_EMPTY), (2, NEARLY_EMPTY), (25, NEARLY_EMPTY * 10 // 25)]
)
def test_what_is_lost_is_counted_by_messages_and_no_further_than_the_most(store, recipients, counted):
    count_of = NEARLY_EMPTY + 300 if recipients < 10 else 500
    store.add(count_of, due=-3600, hinted=-3600, recipients=recipients)
    [stranded] = lost(store.services.db, store.services.queue)
    with store.services.db.read() as session:
        assert count(session, stranded, most=NEARLY_EMPTY) == counted
        assert count(session, stranded) == count_of


def test_a_wiped_queue_is_filled_again_a_thousand_at_a_time_each_once(store):
    store.add(2 * PASS + 500, due=-3600, hinted=-3600)
    db, queue = store.services.db, store.services.queue
    assert hint_again(db, queue, lost(db, queue), passes=1) == PASS
    assert queue.depth()["normal"] == PASS
    assert lost(db, queue) == []  # the rest waits until these hints are taken
    assert len(store.hints()) == PASS
    sweep(store.services, Expired(db, store.services.settings))
    assert len(store.hints()) == PASS + 500


def test_more_than_a_pass_on_a_broken_lane_does_not_hold_back_the_others(store):
    store.add(PASS + 1, lane="high", due=-20)
    normal = store.add(due=-10)
    with pytest.raises(QueueUnavailable, match="no leader"):
        hint_again(store.services.db, OneLaneBroken(store.services.db, ()), unhinted())
    assert set(store.hints()) == messages_of(store, normal)


def test_a_claim_given_back_between_publishing_and_marking_is_not_taken_for_hinted(store):
    (row,) = store.add(due=-1)
    with store.services.db.write() as session:
        # Published 5 s ago; the row is due since 1 s.
        mark_published(InSession(session), {store.row(row).message_id: 5})
    assert store.row(row).published_at is None


class OneLaneBroken(Embedded):
    """A queue whose high lane does not confirm."""

    def publish(self, lane, message_ids, delay=0):
        if lane == "high":
            raise QueueUnavailable("no leader")
        super().publish(lane, message_ids, delay)


def test_a_lane_without_its_queue_does_not_hold_back_the_others(store):
    high, normal = store.add(lane="high", due=-20), store.add(due=-10)
    with pytest.raises(QueueUnavailable, match="no leader"):
        hint_again(store.services.db, OneLaneBroken(store.services.db, ()), unhinted())
    assert set(store.hints()) == messages_of(store, normal)
    assert store.row(high[0]).published_at is None
