"""Results on real rows: which count, and a message's status as the sum of its deliveries."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import Select, insert, select, text, update
from sqlalchemy.orm import Session

from mailbbgun.core.clock import Clock
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.compiled import InSession
from mailbbgun.database.db import db_now
from mailbbgun.deliver.claim import Claim, claim
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.results import BATCH, Results
from mailbbgun.deliver.retry import released
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.events.changes import record
from mailbbgun.events.changes.record import Result
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import DELIVERIES, Delivery, Message
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import sum_of
from mailbbgun.queues.lanes import HIGH
from tests.flow.service import until
from tests.sweep.conftest import Store
from tests.waiting import PATIENCE

# Only there writers can lock each other out: SQLite has one writer at a time.
on_postgresql = pytest.mark.parametrize("store", ["postgresql"], indirect=True)


class Held:
    """A lock on a row, and the writers that wait for it."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store, self._pool = store, pool
        self.writers: list[Future[object]] = []

    def arrives(self, work, *arguments) -> None:
        """Start a writer and wait until it waits for the lock."""
        self.writers.append(self._pool.submit(work, *arguments))
        until(lambda: self.waiting() == len(self.writers), what="a writer that waits for the lock")

    def waiting(self) -> int:
        with self._store.services.db.read() as session:
            of_ours = text(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return int(session.execute(of_ours).scalar_one())


@contextmanager
def held(store: Store, row: Select[object]) -> Iterator[Held]:
    """Hold a lock while writers arrive, then release it and check that each gets through."""
    with ThreadPoolExecutor(4) as pool:
        with store.services.db.write() as session:
            session.execute(row).all()
            lock = Held(store, pool)
            yield lock
        for writer in lock.writers:
            writer.result(PATIENCE)


def recipients(store: Store, message, count: int, **columns) -> list:
    """Add deliveries of a message; return their ids."""
    rows = [new_id() for _ in range(count)]
    with store.services.db.write() as session:
        same = {
            "message_id": message,
            "address": "x@b.test",
            "kind": "to",
            "lane": "normal",
            "status": "PENDING",
            "attempt": 1,
        }
        session.execute(insert(DELIVERIES), [same | columns | {"id": one} for one in rows])
    return rows


def in_place(session: Session, rows: list) -> list:
    """Return delivery ids in the order in which a table scan meets them."""
    return list(
        session.execute(text("SELECT id FROM deliveries WHERE id = ANY(:rows) ORDER BY ctid"), {"rows": rows}).scalars()
    )


def test_a_claim_given_back_is_fenced_from_the_next_one_by_the_same_worker(store, owner):
    (row,) = store.add(due=-1)
    message = store.row(row).message_id
    with store.services.db.write() as session:
        (first,) = claim(InSession(session), owner, [message], 60, 0.0).claims
        back = released(first, 0.0)
        assert record.write_results(session, owner, [back]) == [back]
    with store.services.db.write() as session:
        (second,) = claim(InSession(session), owner, [message], 60, 0.0).claims
    assert second.claim_number > first.claim_number
    with store.services.db.write() as session:
        assert record.write_results(session, owner, [back]) == []  # repeated because the reply to its commit was lost
    assert store.row(row).lease_owner == owner


class Hand(Clock):
    """A clock that is set by hand."""

    seconds = 0.0

    def boot(self) -> float:
        return self.seconds


def test_a_lease_that_was_lost_is_not_prolonged_by_the_next_claim_of_the_same_delivery(store, owner):
    leases = Leases(owner, 60, clock := Hand())
    (row,) = store.add(due=-1)
    message = store.row(row).message_id

    def claimed() -> list:
        with store.services.db.write() as session:
            claims = claim(InSession(session), owner, [message], 60, leases.next_end()).claims
        leases.add([Transaction(message, "a@b.test", False, b"x", "b.test", claims)])
        return claims

    first = claimed()
    clock.seconds = 100.0  # the worker was paused, and the sweep took the claim
    with store.services.db.write() as session:
        record.write_results(session, owner, [released(first[0], 0.0)])
    second = claimed()
    clock.seconds = 130.0
    leases.renew(store.services.db)
    clock.seconds = 180.0
    assert leases.stand(second)
    assert not leases.stand(first)


def test_two_results_of_one_delivery_in_one_commit_are_told_apart_by_their_claims(store, owner):
    (row,) = store.add(due=-1)
    message = store.row(row).message_id
    with store.services.db.write() as session:
        (first,) = claim(InSession(session), owner, [message], 60, 0.0).claims
    with store.services.db.write() as session:  # the sweep took the claim back, and the same worker claimed again
        record.write_results(session, owner, [released(first, 0.0)])
    with store.services.db.write() as session:
        (second,) = claim(InSession(session), owner, [message], 60, 0.0).claims
    delivered = Result(row, message, DEFAULT_TENANT, second.claim_number, Kind.DELIVERED, "DELIVERED")
    with store.services.db.write() as session:
        assert record.write_results(session, owner, [delivered, released(first, 0.0)]) == [delivered]
    assert store.kinds(row) == ["delivered"]
    with store.services.db.read() as session:
        assert session.scalar(select(Message.status).where(Message.id == message)) == "DELIVERED"


@pytest.mark.parametrize("statuses", list(itertools.product(("PENDING", "DELIVERED", "ERROR"), repeat=3)), ids="-".join)
def test_a_message_is_the_sum_of_its_deliveries(store, owner, statuses):
    (first,) = store.add(lease_owner=owner, leased=60, attempt=1)
    message = store.row(first).message_id
    rows = [first, new_id(), new_id()]
    with store.services.db.write() as session:
        same = {
            "message_id": message,
            "address": "x@b.test",
            "kind": "to",
            "lane": "normal",
            "status": "PENDING",
            "lease_owner": owner,
            "attempt": 1,
        }
        session.execute(insert(DELIVERIES), [same | {"id": one} for one in rows[1:]])
    ended = [(row, status) for row, status in zip(rows, statuses, strict=True) if status != "PENDING"]
    for row, status in ended:  # each in its own commit
        with store.services.db.write() as session:
            assert record.write_results(
                session, owner, [Result(row, message, DEFAULT_TENANT, 1, Kind.DELIVERED, status)]
            )
    with store.services.db.read() as session:
        found = session.scalars(select(Delivery.status).where(Delivery.message_id == message)).all()
        assert sorted(found) == sorted(statuses)
        assert session.scalar(select(Message.status).where(Message.id == message)) == sum_of(found)


def test_two_workers_that_end_deliveries_of_the_same_messages_do_not_lock_each_other_out(store):
    workers, count = (uuid4(), uuid4()), 40
    rows = store.add(count, lease_owner=workers[0], leased=60, attempt=1)
    messages = [store.row(row).message_id for row in rows]
    others = [new_id() for _ in rows]
    with store.services.db.write() as session:
        same = {"address": "x@b.test", "kind": "to", "lane": "normal", "status": "PENDING", "attempt": 1}
        given = [same | {"id": row, "message_id": its} for row, its in zip(others, messages, strict=True)]
        session.execute(insert(DELIVERIES), given)
        session.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(others)).values(lease_owner=workers[1]))
    barrier, failed = threading.Barrier(2), []

    def end(worker, mine):
        try:
            for first in range(0, count, 5):
                batch = [
                    Result(row, its, DEFAULT_TENANT, 1, Kind.DELIVERED, "DELIVERED")
                    for row, its in mine[first : first + 5]
                ]
                barrier.wait(PATIENCE)
                with store.services.db.write() as session:
                    assert len(record.write_results(session, worker, batch)) == 5
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)
            barrier.abort()

    pairs = (list(zip(rows, messages, strict=True)), list(zip(others, messages, strict=True)))
    threads = [threading.Thread(target=end, args=one) for one in zip(workers, pairs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with store.services.db.read() as session:
        assert set(session.scalars(select(Message.status).where(Message.id.in_(messages)))) == {"DELIVERED"}


@on_postgresql
def test_two_workers_that_end_deliveries_of_one_message_at_once_wait_for_each_other_and_no_more(store):
    (first,) = store.add(attempt=1, lease_owner=(one := uuid4()), leased=60)
    message = store.row(first).message_id
    (second,) = recipients(store, message, 1, lease_owner=(other := uuid4()))

    def ends(worker, row):
        with store.services.db.write() as session:
            assert record.write_results(
                session, worker, [Result(row, message, DEFAULT_TENANT, 1, Kind.DELIVERED, "DELIVERED")]
            )

    # Both have written their event, which locks the message by its key, before either may update
    # the message's status.
    with held(store, select(Message.id).where(Message.id == message).with_for_update(key_share=True)) as lock:
        lock.arrives(ends, one, first)
        lock.arrives(ends, other, second)
    with store.services.db.read() as session:
        assert session.scalar(select(Message.status).where(Message.id == message)) == "DELIVERED"


@on_postgresql
def test_two_workers_with_the_same_two_hints_claim_each_delivery_once(store):
    messages = [store.row(row).message_id for row in store.add(2, due=-1)]
    for message in messages * 2:  # so that the rows of a message are not adjacent
        recipients(store, message, 2, attempt=0)
    with store.services.db.write() as session:
        session.execute(update(DELIVERIES).values(next_attempt_at=db_now()))
        rows = session.scalars(select(Delivery.id).order_by(Delivery.id)).all()
    claimed = []

    def claims(worker, hints):
        with store.services.db.write() as session:
            claimed.append([one.delivery_id for one in claim(InSession(session), worker, hints, 60, 0.0).claims])

    with held(store, select(Delivery.id).where(Delivery.id == rows[5]).with_for_update()) as lock:
        lock.arrives(claims, uuid4(), messages)
        lock.arrives(claims, uuid4(), messages[::-1])
    assert [sorted(its) for its in sorted(claimed, key=len)] == [[], rows]


@on_postgresql
def test_renewals_and_results_of_one_worker_take_turns(store, owner, tmp_path, caplog):
    db = store.services.db
    rows = store.add(9, due=-1)
    with db.write() as session:
        messages = [store.row(row).message_id for row in rows]
        claims = {one.delivery_id: one for one in claim(InSession(session), owner, messages, 60, 0.0).claims}
    with db.read() as session:
        rows = in_place(session, rows)
    leases = Leases(owner, 60, Clock())
    leases.add(Transaction(one.message_id, "f@x.test", False, b"", "smarthost", [one]) for one in claims.values())
    results = Results(owner, db, Journal(tmp_path, owner), leases, Publisher(db, store.services.queue))
    with held(store, select(Delivery.id).where(Delivery.id == rows[4]).with_for_update()) as lock:
        lock.arrives(leases.renew, db)  # it has the first four rows
        for row in reversed(rows):
            results.put(claims[row], released(claims[row], 0.0))
        assert not results.close(1.0)
    until(lambda: not leases.in_hand(), what="the results")
    assert [record.getMessage() for record in caplog.records] == []
    assert {store.row(row).lease_owner for row in rows} == {None}


@on_postgresql
def test_a_result_of_high_priority_does_not_wait_behind_a_commit_of_others(store, owner, tmp_path):
    db = store.services.db
    bulk, urgent = store.add(2, due=-1)
    with db.write() as session:
        session.execute(update(DELIVERIES).where(DELIVERIES.c.id == urgent).values(lane=HIGH))
        messages = [store.row(row).message_id for row in (bulk, urgent)]
        claims = {one.delivery_id: one for one in claim(InSession(session), owner, messages, 60, 0.0).claims}
    leases = Leases(owner, 60, Clock())
    leases.add(Transaction(one.message_id, "f@x.test", False, b"", "smarthost", [one]) for one in claims.values())
    results = Results(owner, db, Journal(tmp_path, owner), leases, Publisher(db, store.services.queue))
    with held(store, select(Delivery.id).where(Delivery.id == bulk).with_for_update()):
        results.put(claims[bulk], released(claims[bulk], 0.0))
        results.put(claims[urgent], released(claims[urgent], 0.0))
        until(lambda: store.row(urgent).lease_owner is None, what="the urgent result")
        assert store.row(bulk).lease_owner == owner
    assert results.close(PATIENCE)
    assert store.row(bulk).lease_owner is None


def test_results_that_are_put_together_are_due_at_the_same_moment(store, owner, tmp_path):
    db, each = store.services.db, BATCH * 3 // 5  # a commit has room for a part of the second message
    rows = store.add(2, due=-1, recipients=each)
    with db.write() as session:
        messages = {store.row(row).message_id for row in (rows[0], rows[-1])}
        claims = claim(InSession(session), owner, [*messages], 60, 0.0).claims
    results = Results(
        owner, db, Journal(tmp_path, owner), Leases(owner, 60, Clock()), Publisher(db, store.services.queue)
    )
    for message in messages:
        its = [one for one in claims if one.message_id == message]
        assert len(its) == each
        results.put_together([(one, released(one, 60.0)) for one in its])
    assert results.close(PATIENCE)
    with db.read() as session:
        due = select(Delivery.message_id, Delivery.next_attempt_at).where(Delivery.lease_owner.is_(None)).distinct()
        assert sorted(message for message, _ in session.execute(due)) == sorted(messages)


def test_a_claim_that_the_shutdown_fenced_is_given_back_though_its_sender_comes_too_late(store, owner, tmp_path):
    db = store.services.db
    row = store.claimed(owner)
    fenced = Claim(row.id, row.message_id, row.tenant_id, row.address, row.lane, 1, 0, 0, 0.0)
    written, leases = Journal(tmp_path, owner), Leases(owner, 60, Clock())
    leases.add([Transaction(row.message_id, "f@x.test", False, b"", "smarthost", [fenced])])
    written.dots([[fenced]])
    written.undone([fenced])
    assert Results(owner, db, written, leases, Publisher(db, store.services.queue)).close(PATIENCE)
    assert (leases.in_hand(), store.row(row.id).lease_owner) == ([], None)
    written.close()
    assert not written.path.exists()
