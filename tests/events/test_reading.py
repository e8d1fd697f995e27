"""A reader of the log meets each event once and in one order, however many processes write."""

import multiprocessing
import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, text, update

from mailbbgun.batches.models import BATCHES
from mailbbgun.core.errors import InvalidInput
from mailbbgun.core.ids import DEFAULT_TENANT, new_id, new_ids
from mailbbgun.database.db import Database
from mailbbgun.events import batched, cursors, log, reading
from mailbbgun.events.following import cursor
from mailbbgun.events.kinds import ATTEMPTED, Kind
from mailbbgun.events.models import EVENTS, POSITIONS
from mailbbgun.events.reading import START, EventFilters, Position
from mailbbgun.events.storage.settled import keep_growing, remember_reached
from mailbbgun.messages import storing
from mailbbgun.messages.models import MESSAGES
from mailbbgun.webhooks.serving.progress import event_at
from tests.accept.conftest import services as services  # the fixture
from tests.messages.test_counts import MESSAGE

OTHER = UUID(int=7)


def of_message(kind: Kind = Kind.DEFERRED, tenant: UUID = DEFAULT_TENANT, **data) -> dict:
    return log.event(tenant, None, None, kind, data)


def append(db: Database, *events: dict) -> None:
    with db.write() as session:
        log.append(session, events)


def read(db: Database, after: Position = START, limit: int = 1000, tenant: UUID = DEFAULT_TENANT, **how):
    with db.read() as session:
        return reading.read(session, tenant, after, limit, **how)


def place_after(db: Database, after: Position, number: int) -> Position | None:
    with db.read() as session:
        return reading.place_after(session, DEFAULT_TENANT, after, number)


def read_back(db: Database, before: Position | None = None, limit: int = 1000, **how):
    with db.read() as session:
        return reading.read_back(session, DEFAULT_TENANT, before, limit, **how)


def store(db: Database, *addresses: str, batch: UUID | None = None, ids: Sequence[UUID] = (), test=False, tags=()):
    """Store messages, one for each address, with their events; return their ids."""
    new, ids = [], ids or new_ids(len(addresses))
    for identifier, address in zip(ids, addresses, strict=True):
        message = MESSAGE | {"id": identifier, "tenant_id": DEFAULT_TENANT, "key_id": None, "test": test}
        message |= {"created_at": datetime.now(UTC), "batch_id": batch, "subject": f"To {address}", "tags": list(tags)}
        delivery = {"id": new_id(), "tenant_id": DEFAULT_TENANT, "message_id": identifier, "address": address}
        new.append((message, [delivery | {"kind": "to", "lane": "normal"}]))
    row = {"id": batch, "tenant_id": DEFAULT_TENANT, "created_at": datetime.now(UTC), "messages": len(ids)}
    row |= {"first_id": ids[0], "last_id": ids[-1], "subject": "To", "refused": 0, "test": test}
    events = [batched.event(row)] if batch else log.accepted(new)
    if batch:
        with db.write() as session:
            session.execute(insert(BATCHES), [row])
    db.commit(storing.steps(db.dialect, new, [], log.appending(db.dialect, events)))
    return ids, [its[0]["id"] for _, its in new]


def test_a_log_is_read_in_pages_forwards_and_backwards_for_its_tenant_alone(services):
    db = services.db
    events = [of_message(number=number) for number in range(7)]
    append(db, *events[:3])
    append(db, of_message(tenant=OTHER))
    append(db, *events[3:])
    found = read(db)
    assert [one.id for one in found] == [one["id"] for one in events]
    assert [one.position for one in found] == sorted(one.position for one in found)
    assert [Position.parse(str(one.position)) for one in found] == [one.position for one in found]
    pages, place = [], START
    while page := read(db, place, 2):
        pages += page
        place = page[-1].position
    assert pages == found
    assert read(db, found[1].position, until=found[4].position) == found[2:5]
    back = read_back(db, limit=3)
    assert back + read_back(db, back[-1].position) == found[::-1]
    with db.read() as session:
        assert reading.end(session, DEFAULT_TENANT) == found[-1].position
        assert reading.end(session, UUID(int=9)) == START
        places = {DEFAULT_TENANT: found[-1].position, OTHER: START, UUID(int=9): START}
        assert reading.tenants_with_events_after(session, places) == [OTHER]
        assert reading.tenants_with_events_after(session, {DEFAULT_TENANT: found[-2].position}) == [DEFAULT_TENANT]
    for wrong in ("", "1", "x-" + "0" * 32, f"{1 << 63:x}-" + "0" * 32, "1-" + "0" * 31):
        with pytest.raises(ValueError, match="is not a position in the log"):
            Position.parse(wrong)


def test_the_texts_of_positions_sort_as_the_log_is_ordered():
    texts = [str(Position(number, UUID(int=7))) for number in (0, 9, 10, 44, 255, 4096, (1 << 63) - 1)]
    assert texts == sorted(texts)


def test_an_event_comes_with_what_is_known_of_its_message_and_outlives_it(services):
    db = services.db
    (message,), (delivery,) = store(db, "Ann@example.com", tags=["a"])
    append(db, log.event(DEFAULT_TENANT, message, delivery, Kind.BOUNCED, {"code": 550, "account": "main"}))
    append(db, log.event(DEFAULT_TENANT, message, delivery, Kind.OUTCOME_UNKNOWN, {"retry_in": 5}))
    accepted, bounced, unknown = read(db)
    assert (accepted.kind, accepted.recipient, accepted.subject) == (Kind.ACCEPTED, None, "To Ann@example.com")
    assert (bounced.recipient, bounced.account, bounced.tags, bounced.final) == ("Ann@example.com", "main", ["a"], True)
    assert (unknown.final, accepted.final) == (False, False)
    for filters in (
        EventFilters(kinds=ATTEMPTED, account="main"),
        EventFilters(recipient="ann@example.com", kinds=frozenset({Kind.BOUNCED})),
        EventFilters(message_id=message, text="550"),
        EventFilters(
            tag="a", begin=accepted.at, kinds=frozenset({Kind.BOUNCED}), end=unknown.at + timedelta(seconds=1)
        ),
    ):
        assert read(db, filters=filters) == [bounced], filters
    assert read(db, filters=EventFilters(recipient="ann@example.com", text="TO ANN")) == [accepted, bounced, unknown]
    assert read(db, filters=EventFilters(recipient="bob@example.com")) == []
    append(db, of_message(Kind.CIRCUIT_OPENED, account="main"))
    (opened,) = read(db, filters=EventFilters(account="main", kinds=frozenset({Kind.CIRCUIT_OPENED})))
    assert (opened.kind, opened.account, opened.message_id) == (Kind.CIRCUIT_OPENED, "main", None)
    assert set(reading.shown(bounced)) >= {"id", "position", "kind", "at", "final", "recipient", "from", "data"}
    with db.write() as session:
        session.execute(delete(MESSAGES).where(MESSAGES.c.id == message))
    *left, _ = read(db)
    assert [one.id for one in left] == [accepted.id, bounced.id, unknown.id]
    assert {(one.recipient, one.subject, one.accepted_at) for one in left} == {(None, None, None)}
    assert [one.message_id for one in left] == [message] * 3


def test_the_one_event_of_a_batch_is_read_as_one_event_for_each_of_its_messages(services):
    db, batch = services.db, new_id()
    append(db, of_message())
    ids, _ = store(db, *(f"r{number}@example.com" for number in range(5)), batch=batch, tags=["b"])
    append(db, of_message())
    found = read(db)
    assert [one.id for one in found[1:-1]] == ids == [one.message_id for one in found[1:-1]]
    assert found[2].data == {"recipients": 1, "size": 1, "batch_id": str(batch)}
    assert [one.position for one in found] == sorted({one.position for one in found})
    for size in (1, 2, 3, 5, 6):
        pages, place = [], START
        while page := read(db, place, size):
            pages += page
            place = page[-1].position
        assert pages == found
        pages = page = read_back(db, limit=size)
        while page := read_back(db, page[-1].position, size):
            pages += page
        assert pages == found[::-1]
    for number, last in enumerate(found, 1):  # also where the last place is in the midst of the batch
        assert read(db, until=last.position) == found[:number]
        assert read(db, found[0].position, 2, until=last.position) == found[1:number][:2]
        with db.read() as session:
            assert event_at(session, DEFAULT_TENANT, last.position) == last
    assert [one.id for one in read(db, filters=EventFilters(message_id=ids[1]))] == [ids[1]]
    assert [one.id for one in read(db, filters=EventFilters(recipient="r4@example.com"))] == [ids[4]]
    assert [one.id for one in read(db, limit=2, filters=EventFilters(tag="b"))] == ids[:2]
    assert read(db, filters=EventFilters(kinds=frozenset({Kind.DELIVERED}))) == []
    assert [one.id for one in read_back(db, limit=1, filters=EventFilters(recipient="r0@example.com"))] == [ids[0]]


def test_readers_of_test_data_see_events_of_test_messages_alone(services):
    db = services.db
    live, _ = store(db, "a@example.com")
    tests, _ = store(db, "b@example.com", "c@example.com", batch=new_id(), test=True)
    append(db, of_message())
    with db.read(DEFAULT_TENANT, tests_only=True) as session:
        for filters in (
            EventFilters(),
            EventFilters(message_id=tests[0]),
            EventFilters(tag="x", recipient="b@example.com"),
        ):
            found = reading.read(session, DEFAULT_TENANT, START, 10, tests_only=True, filters=filters)
            back = reading.read_back(session, DEFAULT_TENANT, None, 10, tests_only=True, filters=filters)
            expected = {EventFilters(): tests, EventFilters(message_id=tests[0]): tests[:1]}.get(filters, [])
            assert [one.message_id for one in found] == [*expected] == [one.message_id for one in back][::-1]
        alive = EventFilters(message_id=live[0])
        assert reading.read(session, DEFAULT_TENANT, START, 10, tests_only=True, filters=alive) == []


def test_an_event_is_not_shown_while_an_earlier_one_may_still_come(services):
    db = services.db
    if db.dialect == "sqlite":  # its one writer makes the others wait
        return
    first, second = of_message(), of_message()
    with db.write() as early:
        log.append(early, [first])
        append(db, second)
        assert read(db) == []
        with db.read() as session:
            assert reading.end(session, DEFAULT_TENANT) == START
            assert reading.tenants_with_events_after(session, {DEFAULT_TENANT: START}) == []
    assert [one.id for one in read(db)] == [first["id"], second["id"]]


def test_cursors_are_made_moved_listed_and_forgotten(services):
    db, place = services.db, Position(5, new_id())
    with db.write(DEFAULT_TENANT) as session:
        assert cursors.place(session, DEFAULT_TENANT, "one") is None
        cursors.move(session, DEFAULT_TENANT, "one", START)
        cursors.move(session, DEFAULT_TENANT, "one", place)
        cursors.move(session, DEFAULT_TENANT, ".ours", START)
        assert cursors.place(session, DEFAULT_TENANT, "one") == place
        assert [one["name"] for one in cursors.listed(session, DEFAULT_TENANT)] == ["one"]
    with db.write() as session:
        assert cursors.places(session, ".ours") == {DEFAULT_TENANT: START}
        assert cursors.forget(session, DEFAULT_TENANT, "one")
        assert not cursors.forget(session, DEFAULT_TENANT, "one")


def test_new_events_come_after_old_ones_though_the_newest_were_deleted_or_the_server_is_another(services):
    db = services.db
    append(db, of_message(), of_message())
    with db.write() as session:  # as if they had come from a server with higher transaction ids
        if db.dialect == "postgresql":
            session.execute(update(EVENTS).values(position=1 << 40))
    keep_growing(db)
    old = read(db)
    with db.write() as session:
        remember_reached(session)
        session.execute(delete(EVENTS))
    keep_growing(db)
    append(db, of_message())
    (new,) = read(db, old[-1].position)
    assert new.position.number > old[-1].position.number
    keep_growing(db)
    append(db, of_message())
    assert len(read(db, old[-1].position)) == 2
    if db.dialect == "postgresql":
        with db.write() as session:
            session.execute(update(POSITIONS).values(reached=1 << 41))
        keep_growing(db)
        append(db, of_message())
        assert read(db)[-1].position.number > 1 << 41


def _write(url: str, seed: int, rounds: int, tenant: UUID) -> None:
    """Write events in transactions that overlap and commit in any order."""
    dice, db = random.Random(seed), Database(url)
    for number in range(rounds):
        if db.dialect == "sqlite":
            append(db, of_message(tenant=tenant, seed=seed, number=number))
            continue
        with ExitStack() as stack:
            sessions = [stack.enter_context(db.engine.connect()) for _ in range(3)]
            begun = [one.begin() for one in sessions]
            step = log.appending(db.dialect, [of_message(tenant=tenant, seed=seed, number=number)])
            for one in dice.sample(sessions, 3):
                one.execute(step.statement.statement, step.given[0] | {})
                step = log.appending(db.dialect, [of_message(tenant=tenant, seed=seed, number=number)])
            for one in dice.sample(begun, 3):
                one.commit() if dice.random() < 0.9 else one.rollback()
    db.close()


@pytest.mark.parametrize("rounds", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_many_processes_write_and_a_reader_meets_each_event_once_in_one_order(services, rounds):
    url = services.db.url.render_as_string(hide_password=False)
    # The short round has threads: each connection is a process of PostgreSQL, and to start ours takes seconds.
    kind = multiprocessing.get_context("spawn").Process if rounds > 100 else threading.Thread
    writers = [kind(target=_write, args=(url, seed, rounds, DEFAULT_TENANT)) for seed in range(3)]
    for one in writers:
        one.start()
    seen: list[UUID] = []
    place, alive, page = START, True, []
    while alive or page:
        alive = any(one.is_alive() for one in writers)  # asked before the page is read: none comes after the last
        page = read(services.db, place, 50)
        seen += [one.id for one in page]
        place = page[-1].position if page else place
    assert not [one for one in writers if getattr(one, "exitcode", 0)]
    assert len(set(seen)) == len(seen) > rounds
    with services.db.read() as session:
        everything = session.execute(text("SELECT id FROM events ORDER BY position, id")).scalars().all()
    assert [UUID(str(one)) for one in everything] == seen


def test_a_cursor_may_stay_where_events_were_that_are_deleted_and_places_are_counted_in_events(services) -> None:
    append(services.db, *(of_message() for _ in range(5)))
    places = [one.position for one in read(services.db)]
    assert [place_after(services.db, START, n) for n in (1, 5, 6)] == [places[0], places[4], None]
    assert place_after(services.db, places[1], 2) == places[3]
    with services.db.write() as session:
        cursor.put(session, DEFAULT_TENANT, "mine", str(places[3]))
        session.execute(delete(EVENTS))
    with services.db.write() as session:
        assert cursor.acknowledge(session, DEFAULT_TENANT, "mine", str(places[3]))["position"] == str(places[3])
        with pytest.raises(InvalidInput):
            cursor.acknowledge(session, DEFAULT_TENANT, "mine", str(places[4]))
