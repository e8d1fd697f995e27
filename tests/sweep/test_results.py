"""Results against real rows: what stands, what is fenced, and a message's status as the sum of its deliveries'."""

import itertools
import threading
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from mailbbgun.base.ids import new_id
from mailbbgun.deliver.claim import claim
from mailbbgun.deliver.retry import released
from mailbbgun.events import record
from mailbbgun.events.kinds import Kind
from mailbbgun.events.record import Result
from mailbbgun.messages.models import DELIVERIES, Delivery, Message
from mailbbgun.messages.status import sum_of


def test_a_claim_given_back_is_fenced_from_the_next_one_by_the_same_worker(store, owner):
    (row,) = store.add(due=-1)
    message = store.row(row).message_id
    with store.services.db.write() as session:
        (first,) = claim(session, owner, [message], 60, 0.0)
        back = released(first, 0.0)
        assert record.results(session, owner, [back]) == [back]
    with store.services.db.write() as session:
        (second,) = claim(session, owner, [message], 60, 0.0)
    assert second.attempt > first.attempt
    with store.services.db.write() as session:
        assert record.results(session, owner, [back]) == []  # repeated, for the answer to its commit was lost
    assert store.row(row).lease_owner == owner


@pytest.mark.parametrize("statuses", list(itertools.product(("PENDING", "DELIVERED", "ERROR"), repeat=3)), ids="-".join)
def test_a_message_is_the_sum_of_its_deliveries(store, owner, statuses):
    (first,) = store.add(lease_owner=owner, leased=60, attempt=1)
    message = store.row(first).message_id
    rows = [first, new_id(), new_id()]
    with store.services.db.write() as session:
        same = {"message_id": message, "address": "x@b.test", "kind": "to", "lane": "normal", "status": "PENDING", "lease_owner": owner, "attempt": 1}
        session.execute(insert(DELIVERIES), [same | {"id": one} for one in rows[1:]])
    ended = [(row, status) for row, status in zip(rows, statuses, strict=True) if status != "PENDING"]
    for row, status in ended:  # each in a commit of its own
        with store.services.db.write() as session:
            assert record.results(session, owner, [Result(row, message, 1, Kind.DELIVERED, status)])
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
                batch = [Result(row, its, 1, Kind.DELIVERED, "DELIVERED") for row, its in mine[first : first + 5]]
                barrier.wait(10)
                with store.services.db.write() as session:
                    assert len(record.results(session, worker, batch)) == 5
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
