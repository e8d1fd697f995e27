"""Old bodies go, then old messages; pending ones stay, and contents stay as long as a message needs them."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from mailbbgun.attachments import expire, store
from mailbbgun.attachments.models import BLOBS
from mailbbgun.composing.contents import Content, File, Personal, StoredContent
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.ids import DEFAULT_TENANT, first_id_at, new_id
from mailbbgun.database.db import db_now
from mailbbgun.events import log as events_log
from mailbbgun.events.models import EVENTS
from mailbbgun.messages import retention, storing
from mailbbgun.messages.loading import Contents
from mailbbgun.messages.models import CONTENT_FILES, CONTENTS, DELIVERIES, MESSAGES
from mailbbgun.messages.retention import Retention
from tests.accept.conftest import services as services  # the fixture
from tests.messages.test_counts import MESSAGE, counted, kept

ANN = Mailbox("Ann", "ann@example.com")


def days_ago(days: float) -> UUID:
    """Return a new id of a message that was accepted so many days ago."""
    first = first_id_at(datetime.now(UTC) - timedelta(days=days)).int
    return UUID(int=first | new_id().int & (1 << 62) - 1)


def add(services, days: float, *, status="DELIVERED", content: StoredContent | None = None) -> UUID:
    """Store a message, plain or of a content, as it would be so many days after its acceptance."""
    message = {
        **MESSAGE,
        "id": days_ago(days),
        "tenant_id": DEFAULT_TENANT,
        "key_id": None,
        "test": False,
        "created_at": datetime.now(UTC) - timedelta(days=days),
    }
    if content:
        message |= {"raw": None, "content_id": content.id, "personal": Personal(to=(ANN,)).row()}
    delivery = {"id": new_id(), "tenant_id": DEFAULT_TENANT, "message_id": message["id"], "address": "ann@example.com"}
    new = [(message, [delivery | {"kind": "to", "lane": "normal"}])]
    dialect = services.db.dialect
    events = events_log.appending(dialect, events_log.accepted(new))
    services.db.commit(storing.steps(dialect, new, [content] if content else [], events))
    with services.db.write() as session:
        session.execute(update(MESSAGES).where(MESSAGES.c.id == message["id"]).values(status=status))
        session.execute(update(DELIVERIES).where(DELIVERIES.c.message_id == message["id"]).values(status=status))
    return message["id"]


def content_with_file(services, octets: bytes) -> StoredContent:
    """Return a content with a file that is in the store."""
    services.blobs.prepare()
    one = store.take(services.db, services.blobs, DEFAULT_TENANT, [octets], most=1000)
    file = File(sha256=one.sha256, size=one.size, filename="a.txt", content_type="text/plain")
    return StoredContent.of(DEFAULT_TENANT, Content(sender=ANN, text="Hi", files=(file,)))


def rows(services, table) -> int:
    with services.db.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def with_body(services) -> set[UUID]:
    with services.db.read() as session:
        return set(session.scalars(select(MESSAGES.c.id).where(retention._HAS_BODY)))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 3)


def test_old_bodies_go_in_batches_and_pending_and_young_ones_stay(services):
    old = {add(services, 11) for _ in range(8)}
    pending = {add(services, 12, status="PENDING") for _ in range(2)}
    young = {add(services, 9) for _ in range(2)}
    Retention(services.db, 10, 0).run(threading.Event())
    assert with_body(services) == pending | young
    assert rows(services, MESSAGES) == len(old | pending | young)
    assert kept(services.db) == counted(services.db)


def test_a_body_that_was_pending_goes_when_it_is_looked_at_again(services, monkeypatch):
    (late,) = {add(services, 12, status="PENDING")}
    monkeypatch.setattr(retention, "AGAIN_SECONDS", 0.0)
    policy = Retention(services.db, 10, 0)
    policy.run(threading.Event())
    assert with_body(services) == {late}
    with services.db.write() as session:
        session.execute(update(MESSAGES).values(status="ERROR"))
    policy.run(threading.Event())
    assert with_body(services) == set()


def test_a_content_and_its_file_go_with_the_last_message_that_needs_them(services):
    shared, alone = content_with_file(services, b"shared"), content_with_file(services, b"alone")
    for days in (11, 12):
        add(services, days, content=shared)
    add(services, 11, content=alone)
    young = add(services, 1, content=shared)
    Retention(services.db, 10, 0).run(threading.Event())
    with services.db.read() as session:
        assert session.scalars(select(CONTENTS.c.id)).all() == [shared.id]
        assert session.scalars(select(CONTENT_FILES.c.content_id)).all() == [shared.id]
    with services.db.write() as session:
        session.execute(update(BLOBS).values(kept_until=db_now(-1)))
    expire.expire(services.db, services.blobs, 30)
    with services.db.read() as session:
        assert session.scalars(select(BLOBS.c.sha256)).all() == [shared.content.files[0].sha256]
    assert Contents(services.db).messages([young])[young].composed() is not None


def test_old_messages_go_with_their_deliveries_and_their_events_stay(services):
    gone = {add(services, 101, content=content_with_file(services, b"x")) for _ in range(4)}
    left = {add(services, 101, status="PENDING"), add(services, 99)}
    Retention(services.db, 10, 100).run(threading.Event())
    with services.db.read() as session:
        assert set(session.scalars(select(MESSAGES.c.id))) == left
        assert set(session.scalars(select(DELIVERIES.c.message_id))) == left
        assert set(session.scalars(select(EVENTS.c.message_id))) == left | gone  # until EVENT_DAYS
    assert rows(services, CONTENTS) == 0
    assert kept(services.db) == counted(services.db)


def test_without_days_all_stay(services):
    add(services, 4000)
    Retention(services.db, 0, 0).run(threading.Event())
    assert len(with_body(services)) == 1


def test_equal_contents_of_several_commits_are_one_row(services):
    content = content_with_file(services, b"x")
    ids = [add(services, 1, content=content) for _ in range(3)]
    assert (rows(services, CONTENTS), rows(services, CONTENT_FILES)) == (1, 1)
    found = Contents(services.db).messages(ids)
    assert [one.content for one in found.values()] == [content.content] * 3
    assert {one.tenant_id for one in found.values()} == {DEFAULT_TENANT}


def test_a_file_that_a_message_needs_cannot_be_deleted(services):
    content = content_with_file(services, b"x")
    add(services, 1, content=content)
    with services.db.write() as session:
        session.execute(update(BLOBS).values(kept_until=db_now(-1)))
    expire.expire(services.db, services.blobs, 30)
    assert rows(services, BLOBS) == 1
