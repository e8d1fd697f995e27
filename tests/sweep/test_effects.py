"""What deliveries on this machine change: it stops no other result, and locks nobody out."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import Uuid, bindparam, select, text, update

from mailbbgun.core.clock import Clock
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.compiled import CompiledStatement, InSession, StatementStep
from mailbbgun.deliver.claim import claim
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.results import Results
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.events.changes import record
from mailbbgun.events.changes.record import Result
from mailbbgun.events.kinds import Kind
from mailbbgun.inbound_routes.effect import NewDelivery, RoutedEffect, RoutedKind
from mailbbgun.messages.models import DELIVERIES
from mailbbgun.messages.publisher import Publisher
from tests.flow.service import until
from tests.waiting import PATIENCE

# Only there writers can lock each other out: SQLite has one writer at a time.
ORDERS = ((0, 2, 1), (1, 2, 0))
on_postgresql = pytest.mark.parametrize("store", ["postgresql"], indirect=True)


class Changing:
    """What a delivery changes: another one, and the sum of its message, as a report does."""

    gate, makes_due = None, False

    def __init__(self, delivery, message):
        self.changes, self._message = [delivery], message

    def steps(self, statements, delivery):
        """Lock the other delivery, and sum its message up, at once."""
        del delivery
        lock = select(DELIVERIES.c.id).where(DELIVERIES.c.id == bindparam("id", type_=Uuid())).with_for_update()
        statements.ask(CompiledStatement(lock), {"id": self.changes[0]})
        statements.run(record.summing(statements.dialect, [self._message]))
        return ()


@on_postgresql
def test_two_workers_whose_deliveries_change_the_same_others_do_not_lock_each_other_out(store):
    db, workers, count = store.services.db, (uuid4(), uuid4()), 40
    others = [(row, store.row(row).message_id) for row in store.add(count, attempt=1)]
    ours = {one: store.add(count, lease_owner=one, leased=60, attempt=1) for one in workers}
    barrier = threading.Barrier(2)

    def end(worker, changed):
        pairs = list(zip(ours[worker], changed, strict=True))
        for first in range(0, count, 10):
            batch = [
                Result(row, store.row(row).message_id, DEFAULT_TENANT, 1, Kind.DELIVERED, "DELIVERED", effect=its)
                for row, its in [(row, Changing(*other)) for row, other in pairs[first : first + 10]]
            ]
            barrier.wait(PATIENCE)
            try:
                assert len(record.commit_results(db, worker, batch, lambda: None)) == 10
            except BaseException:
                barrier.abort()  # the other one waits there
                raise

    tens = [others[first : first + 10] for first in range(0, count, 10)]
    orders = ([one for ten in tens for one in ten], [one for ten in tens for one in reversed(ten)])
    with ThreadPoolExecutor(2) as pool:
        for ended in [pool.submit(end, *one) for one in zip(workers, orders, strict=True)]:
            ended.result(PATIENCE)


AWAY = RoutedEffect("a@b.test", [NewDelivery("away@else.test", RoutedKind.MAIL)])
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@on_postgresql
def test_two_workers_that_forward_the_same_messages_do_not_lock_each_other_out(store):
    db, workers = store.services.db, (uuid4(), uuid4())
    rows = store.add(3, recipients=2, leased=60, attempt=1)
    ours = dict(zip(workers, (rows[::2], rows[1::2]), strict=True))
    for owner, its in ours.items():
        with db.write() as session:
            session.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(its)).values(lease_owner=owner))

    def ended(row):
        its = (row, store.row(row).message_id, DEFAULT_TENANT)
        return Result(*its, 1, Kind.DELIVERED, "DELIVERED", effect=AWAY)

    # Both have the last message in the middle, which a third one has just begun to forward.
    batches = {one: [ended(its[n]) for n in order] for (one, its), order in zip(ours.items(), ORDERS, strict=True)}
    with ThreadPoolExecutor(2) as pool, db.engine.connect() as looking:
        with db.write() as third:
            statements = InSession(third)
            statements.run(AWAY.steps(statements, batches[workers[0]][1]))
            both = [pool.submit(record.commit_results, db, *one, lambda: None) for one in batches.items()]
            until(lambda: looking.execute(text(WAITING)).scalar() >= 2, what="two that wait")
        assert [len(one.result(PATIENCE)) for one in both] == [3, 3]
    with db.read() as session:
        forwards = select(DELIVERIES.c.message_id).where(DELIVERIES.c.kind == RoutedKind.MAIL)
        assert sorted(session.scalars(forwards)) == sorted({one.message_id for its in batches.values() for one in its})


class Refused:
    """What a delivery is to change, which cannot be stored."""

    changes, gate, makes_due = (), None, False

    def __init__(self, why):
        self._why = why

    def steps(self, statements, delivery):
        """Fail, or return a statement that the database refuses."""
        if self._why == "bug":
            raise ValueError("a bug")
        identifier = {"id": delivery.delivery_id, "attempt": None}
        statement = update(DELIVERIES).where(DELIVERIES.c.id == bindparam("id", type_=Uuid()))
        return [StatementStep(CompiledStatement(statement.values(attempt=bindparam("attempt"))), [identifier])]


@pytest.mark.parametrize("why", ["bug", "value"])
def test_a_result_that_cannot_be_written_is_parked_and_stops_no_other(store, owner, tmp_path, why):
    db = store.services.db
    rows = store.add(5, due=-1)
    with db.write() as session:
        messages = [store.row(row).message_id for row in rows]
        claims = {one.delivery_id: one for one in claim(InSession(session), owner, messages, 60, 0.0).claims}
    leases = Leases(owner, 60, Clock())
    leases.add(Transaction(one.message_id, "f@x.test", False, b"", "smarthost", [one]) for one in claims.values())
    results = Results(owner, db, Journal(tmp_path, owner), leases, Publisher(db, store.services.queue))
    for number, row in enumerate(rows):
        its = (row, claims[row].message_id, DEFAULT_TENANT, claims[row].claim_number)
        ended = Result(*its, Kind.DELIVERED, "DELIVERED", reply="stored", effect=Refused(why) if number == 2 else None)
        results.put(claims[row], ended)
    assert results.close(PATIENCE)
    assert [store.row(row).status for row in rows] == ["DELIVERED"] * 2 + ["ERROR"] + ["DELIVERED"] * 2
    assert store.kinds(rows[2]) == ["parked"]
    assert not leases.in_hand()
