"""Shared commits: messages that come together are stored whole, and no message fails for another's fault."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Queue
from threading import Barrier

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from mailbbgun.accept.pending import Rows
from mailbbgun.accept.store import LARGE, MESSAGES, Store
from mailbbgun.core.errors import DatabaseUnavailable, IdempotencyMismatch
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database import idempotency
from mailbbgun.database.idempotency import KeyClaim
from mailbbgun.events.models import Event
from mailbbgun.messages.models import Delivery, Message, MessageTag
from tests.waiting import PATIENCE, pause, wait_until

THREADS = 24
#: Attributes that have another name than their column.
ATTRIBUTES = {"metadata": "meta", "message_id": "message_id_header"}


class Watched:
    """A real database that counts its writes, holds the first one until everybody has come, and can be away."""

    def __init__(self, database):
        self._database, self.read = database, database.read
        self.writes = 0
        self.away = False
        self.gate = Barrier(2)

    dialect = property(lambda self: self._database.dialect)

    @contextmanager
    def write(self, **options):
        self._come()
        with self._database.write(**options) as session:
            yield session

    def commit(self, steps):
        self._come()
        self._database.commit(steps)

    def _come(self):
        self.writes += 1
        if self.writes == 1:
            self.gate.wait(PATIENCE)
        if self.away:
            raise DatabaseUnavailable("away")


def rows(number=0, **wrong):
    identifier = new_id()
    message = {
        "id": identifier, "tenant_id": DEFAULT_TENANT, "key_id": None, "test": False, "created_at": datetime.now(UTC),
        "subject": f"n {number} \u2713 \"quoted\"", "sender": "a@example.com", "mail_from": "a@example.com",
        "message_id": f"<{identifier}@example.com>", "priority": 5, "smtputf8": False, "size": 6,
        "tags": ["one", "two"], "metadata": {"n": number}, "raw": bytes(range(number, 256)) * (number % 3),
    }  # fmt: skip
    whose = {"tenant_id": DEFAULT_TENANT, "message_id": identifier}
    delivery = {"id": new_id(), "address": f"u{number}@example.com", "kind": "to", "lane": "normal", **whose}
    return Rows(message | wrong, [delivery], {"id": str(identifier)})


@pytest.fixture
def database(services):
    return Watched(services.db)


class Stored(list):
    """A store, and the ids of what it said is committed."""

    def __init__(self, database):
        super().__init__()
        self.store = Store(database, 86_400)

    def begin(self, rows, claim=None):
        pending = self.store.pending(rows, claim, lambda: self.append(rows.message["id"]))
        self.store.begin(pending)
        return pending

    def __call__(self, rows, claim=None):
        return self.store.pending(rows, claim, lambda: self.append(rows.message["id"])).result()


@pytest.fixture
def store(services):
    made = Stored(services.db)
    yield made
    made.store.close()


@pytest.fixture
def at_once(database):
    """Begin with the first message, and with the others during its commit; return results or errors in order."""
    stored = Stored(database)

    def run(arguments):
        begun = [stored.begin(*arguments[0])]
        wait_until(lambda: database.writes, "the first one's commit", look=0.001)
        begun += [stored.begin(*one) for one in arguments[1:]]
        database.gate.wait(PATIENCE)
        with ThreadPoolExecutor(len(begun)) as pool:
            futures = [pool.submit(one.result) for one in begun]
            answers = [future.exception() or future.result() for future in futures]
        assert sorted(stored) == sorted(
            rows.message["id"] for (rows, _), answer in zip(arguments, answers, strict=True) if answer is None
        )
        return answers

    yield run
    stored.store.close()


def count(services, *models):
    with services.db.read() as session:
        return [session.scalar(select(func.count()).select_from(model)) for model in models]


def test_messages_that_come_together_are_stored_whole_and_in_few_commits(services, database, at_once):
    wanted = [rows(number) for number in range(THREADS)]
    assert at_once([(one, None) for one in wanted]) == [None] * THREADS
    assert database.writes == 2  # the first one's, and all the others'
    assert count(services, Message, Delivery, MessageTag, Event) == [THREADS, THREADS, 2 * THREADS, THREADS]
    with services.db.read() as session:
        for one in wanted:
            found = session.get(Message, one.message["id"])
            assert {name: getattr(found, ATTRIBUTES.get(name, name)) for name in one.message} == one.message
            delivery = session.scalars(select(Delivery).where(Delivery.message_id == found.id)).one()
            assert (delivery.status, delivery.attempt, delivery.tries, delivery.published_at) == ("PENDING", 0, 0, None)
            assert abs((delivery.next_attempt_at - datetime.now(UTC)).total_seconds()) < 60


def test_more_messages_than_a_commit_holds_go_into_several(services, database, at_once):
    assert at_once([(rows(number), None) for number in range(MESSAGES + 11)]) == [None] * (MESSAGES + 11)
    assert database.writes == 3
    assert count(services, Message) == [MESSAGES + 11]


def test_requests_with_one_key_are_one_message_and_each_hears_its_answer(services, at_once):
    claim, other = KeyClaim("key", "same"), KeyClaim("key", "different")
    answers = at_once(
        [(rows(number), claim) for number in range(6)] + [(rows(), other), (rows(), KeyClaim("key2", "same"))]
    )
    stored = [one for one in answers[:6] if one is None]
    assert len(stored) == 1
    with services.db.read() as session:
        ids = {str(identifier) for identifier in session.scalars(select(Message.id))}
    assert len(ids) == 2
    assert {one["id"] for one in answers[:6] if one} < ids
    assert isinstance(answers[6], IdempotencyMismatch)
    assert answers[7] is None


def test_a_message_that_cannot_be_stored_fails_alone(services, at_once):
    arguments = [(rows(number), None) for number in range(8)]
    arguments[5] = (rows(5, subject=None), None)
    answers = at_once(arguments)
    assert isinstance(answers.pop(5), IntegrityError)
    assert answers == [None] * 7
    assert count(services, Message) == [7]


def test_a_database_that_is_away_is_told_to_each_and_used_again_when_it_is_back(services, database, at_once):
    database.away = True
    assert all(isinstance(one, DatabaseUnavailable) for one in at_once([(rows(number), None) for number in range(5)]))
    database.away = False
    assert Stored(database)(rows()) is None
    assert count(services, Message) == [1]


@pytest.mark.parametrize(
    "services", ["postgresql"], indirect=True
)  # SQLite has one writer: a held key is a held database
def test_a_key_that_another_process_has_taken_keeps_no_other_message_waiting(services, store):
    held = KeyClaim("held", "same")
    with services.db.write() as rival:
        idempotency.take(rival, {held: (new_id(), {"id": "rival's"})}, 86_400)
        with ThreadPoolExecutor(6) as pool:
            waiting = pool.submit(store, rows(), held)
            pause(0.05)
            others = [pool.submit(store, rows(number)) for number in range(5)]
            assert [one.result(PATIENCE) for one in others] == [None] * 5
            assert not waiting.done()
            rival.commit()
            assert waiting.result(PATIENCE) == {"id": "rival's"}


def test_a_large_message_goes_by_itself(services, store):
    large = store.begin(rows(size=LARGE + 1))
    assert not large.stored, "nobody else's commit has taken it"
    assert large.result() is None
    assert large.stored
    assert store(rows(size=LARGE + 1), KeyClaim("key", "same")) is None
    assert set(store(rows(size=LARGE + 1), KeyClaim("key", "same"))) == {"id"}
    assert count(services, Message) == [2]
    assert len(store) == 2


def test_who_cannot_wait_is_called_back(store):
    told = Queue()
    stored, large = store.begin(rows()), store.begin(rows(size=LARGE + 1))
    stored.begin(lambda: told.put("stored"))
    assert told.get(timeout=PATIENCE) == "stored"
    assert stored.stored
    stored.begin(lambda: told.put("late"))
    large.begin(lambda: told.put("to be done"))
    assert [told.get(timeout=PATIENCE), told.get(timeout=PATIENCE)] == ["late", "to be done"]


def test_a_message_that_comes_after_the_store_is_closed_is_written_by_its_request(services, store):
    store.store.close()
    assert store(rows()) is None
    late, told = store.store.pending(rows(), None, lambda: None), Queue()
    late.begin(lambda: told.put("to be done"))
    assert told.get(timeout=PATIENCE) == "to be done"
    assert late.result() is None
    assert count(services, Message) == [2]


def test_waiting_messages_are_stored_before_the_store_is_closed(services, store):
    begun = [store.begin(rows(number)) for number in range(MESSAGES + 5)]
    store.store.close()
    assert all(one.stored for one in begun)
    assert count(services, Message) == [MESSAGES + 5]


BYTES = (
    b"", b"plain", rb"a back\slash, \\two, \101, \x41 and \', 'quotes' and 100% %s %(raw)s", bytes(range(1, 128)),
    b"nul\0",
    "gr\u00fc\u00dfe".encode(), bytes(range(256)),
)  # fmt: skip


@pytest.mark.parametrize("together", [BYTES, BYTES[:4], BYTES[2:3]], ids=["all", "ascii", "backslashes"])
def test_bytes_are_stored_as_they_are_whatever_shares_their_commit(services, at_once, together):
    wanted = [rows(number, raw=raw, size=len(raw)) for number, raw in enumerate([b"first", *together])]
    assert at_once([(one, None) for one in wanted]) == [None] * len(wanted)
    with services.db.read() as session:
        found = dict(session.execute(select(Message.id, Message.raw)).all())
    assert [bytes(found[one.message["id"]]) for one in wanted] == [b"first", *together]


@pytest.mark.parametrize("services", ["postgresql"], indirect=True)
def test_connections_that_the_server_has_ended_cost_no_commit(services, store, postgresql, caplog):
    assert store(rows()) is None
    assert postgresql.terminate(services.db.url.database) > 0
    with caplog.at_level("INFO", "mailbbgun.accept"):
        assert [store(rows(number)) for number in range(3)] == [None] * 3
    assert [one.message for one in caplog.records if one.name == "mailbbgun.accept"] == []  # no commit_shared_failed
    assert count(services, Message, Event) == [4, 4]
