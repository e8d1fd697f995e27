"""The verb, in cases that no request can cause: a connection that breaks around the commit, keys that expire."""

from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYBODY, KeyKind
from mailbbgun.core.errors import DatabaseUnavailable, IdempotencyMismatch
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.idempotency import IdempotencyKey, forget_expired
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.publisher import Publisher
from mailbbgun.queues.lanes import NORMAL, OVERFLOW
from mailbbgun.queues.overflow import BURST
from mailbbgun.templates.resolve import Templates
from tests.waiting import PATIENCE

HELLO = Fields(to=["ann@example.com"], subject="Hello", text="Hi")
DAY = 86_400


class Breaking:
    """A real database whose connection breaks in its first writes: before the commit, or right after it."""

    def __init__(self, database: Database, *, after: int = 0, before: int = 0) -> None:
        self._database, self.dialect, self._after, self._before = database, database.dialect, after, before

    def read(self):
        return self._database.read()

    @contextmanager
    def write(self, **options):
        with self._database.write(**options) as session:
            self._break_before()
            yield session
        self._break_after()

    def commit(self, steps):
        self._break_before()
        self._database.commit(steps)
        self._break_after()

    def _break_before(self):
        if self._before:
            self._before -= 1
            raise DatabaseUnavailable("broke before the commit")

    def _break_after(self):
        if self._after:
            self._after -= 1
            raise DatabaseUnavailable("broke after the commit")


@pytest.fixture
def publisher(services):
    made = Publisher(services.db, services.queue)
    yield made
    made.close()


def accept(services, publisher, submission, key=None, caller=ANYBODY):
    store = Store(services.db, DAY)
    try:
        return (
            Acceptor(
                services.settings,
                store,
                publisher,
                Attached(services, Inspector(services)),
                Templates(services.db),
            )
            .accept(submission, caller, Options(idempotency_key=key))
            .result()
        )
    finally:
        store.close()


def count(services):
    with services.db.read() as session:
        return session.scalar(select(func.count()).select_from(Message))


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("breaks", [{"after": 1}, {"before": 1}])
def test_a_connection_that_breaks_once_around_the_commit_is_no_failure_and_no_second_message(
    services, publisher, key, breaks
):
    accepted = accept(replace(services, db=Breaking(services.db, **breaks)), publisher, HELLO, key)
    assert not accepted.replayed
    assert count(services) == 1
    if key:
        again = accept(services, publisher, HELLO, key)
        assert (again.id, again.replayed) == (accepted.id, True)


def test_a_connection_that_breaks_twice_is_unavailable_and_stores_nothing(services, publisher):
    with pytest.raises(DatabaseUnavailable):
        accept(replace(services, db=Breaking(services.db, before=2)), publisher, HELLO)
    assert count(services) == 0


def test_what_is_accepted_is_hinted(services, publisher):
    accepted = accept(services, publisher, HELLO)
    hints = services.queue.consumer(10).take(10, PATIENCE)
    assert [(hint.message_id, hint.lane) for hint in hints] == [(UUID(accepted.id), "normal")]


def test_an_expired_key_is_free_again(services, publisher):
    first = accept(services, publisher, HELLO, "key")
    with services.db.write() as session:
        session.execute(update(IdempotencyKey).values(created_at=db_now(-DAY - 1)))
    second = accept(services, publisher, replace(HELLO, subject="Other"), "key")
    assert (second.replayed, second.id != first.id) == (False, True)
    assert accept(services, publisher, replace(HELLO, subject="Other"), "key").id == second.id
    with pytest.raises(IdempotencyMismatch):
        accept(services, publisher, HELLO, "key")


def test_expired_keys_are_forgotten_in_batches_and_fresh_ones_kept(services, publisher):
    for n in range(5):
        accept(services, publisher, HELLO, f"old{n}")
    with services.db.write() as session:
        session.execute(update(IdempotencyKey).values(created_at=db_now(-DAY - 1)))
    accept(services, publisher, HELLO, "fresh")
    forgotten = []
    for _ in range(4):
        with services.db.write() as session:
            forgotten.append(forget_expired(session, DAY, limit=2))
    assert forgotten == [2, 2, 1, 0]
    assert accept(services, publisher, HELLO, "fresh").replayed


def test_much_test_mail_does_not_put_live_mail_of_its_tenant_on_the_overflow_lane(services, publisher):
    tests = replace(ANYBODY, kind=KeyKind.TEST)
    for _ in range(2 * BURST):
        publisher.count_and_choose_lane(tests.counts_as, 5)
    ids = {
        UUID(accept(services, publisher, HELLO, caller=caller).id): lane
        for caller, lane in ((tests, OVERFLOW), (ANYBODY, NORMAL))
    }
    with services.db.read() as session:
        assert dict(session.execute(select(Delivery.message_id, Delivery.lane)).all()) == ids
