"""Months of the log are made ahead and dropped as a whole; an event is in the log wherever it is kept."""

import threading
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from mailbbgun.events.storage import partitions
from mailbbgun.events.storage.partitions import Expiry, make_ahead
from tests.accept.conftest import services as services  # the fixture
from tests.events.test_reading import append, of_message, read


def at(days: float) -> dict:
    return of_message() | {"at": datetime.now(UTC) + timedelta(days=days)}


def names(db) -> dict[str, int]:
    """Return how many events each partition has."""
    with db.read() as session:
        found = [one.name for one in partitions._partitions(session)]
        return {one: session.scalar(text(f"SELECT count(*) FROM {one}")) for one in found}


def test_events_that_are_too_old_are_deleted_and_the_others_stay(services, monkeypatch):
    db = services.db
    monkeypatch.setattr(partitions, "PIECE", 2)
    old, young = [at(-800) for _ in range(5)], [at(-3), at(0)]
    append(db, *old)
    if db.dialect == "postgresql":
        with db.write() as session:  # as after years: the first partition ends long ago
            end = (datetime.now(UTC) - timedelta(days=700)).date()
            session.execute(text("ALTER TABLE events DETACH PARTITION events_before"))
            bounds = f"FROM (MINVALUE) TO ('{end}')"
            session.execute(text(f"ALTER TABLE events ATTACH PARTITION events_before FOR VALUES {bounds}"))
        append(db, at(-650), at(-640), at(-630))
    append(db, *young)
    if db.dialect == "postgresql":
        assert (names(db)["events_before"], names(db)["events_default"]) == (5, 5)
    place = read(db)[-1].position
    Expiry(db, 100).run(threading.Event())
    assert {one.id for one in read(db)} == {one["id"] for one in young}
    append(db, at(0))
    assert len(read(db, place)) == 1
    if db.dialect == "postgresql":
        assert "events_before" not in names(db)


def test_months_are_made_ahead_and_take_what_the_default_partition_has(services, monkeypatch):
    db = services.db
    before = set(names(db)) if db.dialect == "postgresql" else set()
    assert make_ahead(db) == 0
    append(db, at(100), at(130), at(4000), at(0))
    if db.dialect == "sqlite":
        return
    assert names(db)["events_default"] == 3
    monkeypatch.setattr(partitions, "AHEAD_DAYS", 150)
    made = make_ahead(db)
    found = names(db)
    assert made == len(set(found) - before) >= 2  # three, but on the first days of some months
    assert found["events_default"] == 1
    assert sum(found.values()) == 4 == len(read(db))
    assert make_ahead(db) == 0
    with db.write() as session:  # as if the service had been away for longer than EVENT_DAYS
        session.execute(text(f"DROP TABLE {', '.join(one for one in found if one != 'events_default')}"))
    assert make_ahead(db) >= 5


def test_a_month_that_is_in_use_is_made_later(services, monkeypatch):
    db = services.db
    if db.dialect == "sqlite":
        return
    monkeypatch.setattr(partitions, "AHEAD_DAYS", 100)
    monkeypatch.setattr(partitions, "LOCK_MILLISECONDS", 10)
    with db.read() as session:
        session.execute(text("SELECT count(*) FROM events"))
        assert make_ahead(db) == 0
    assert make_ahead(db) >= 1
