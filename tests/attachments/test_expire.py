"""Files that nobody needs are deleted, and no file that a row refers to."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, ForeignKeyConstraint, String, Table, Uuid, delete, insert, select, update

from mailbbgun.attachments import expire, find, repo, store, uploads
from mailbbgun.attachments.find import Reference
from mailbbgun.attachments.models import ATTACHMENTS, BLOBS, key_of
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import BlobStoreUnavailable
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import Base, db_now
from mailbbgun.services import Services

DAY = 86_400
WHO = Caller(DEFAULT_TENANT)


def take(services: Services, content: bytes) -> StoredFile:
    return store.take(services.db, services.blobs, DEFAULT_TENANT, [content], most=1000)


def named(services: Services, stored: StoredFile, test: bool = False) -> Reference:
    values = {"filename": "x.txt", "content_type": "text/plain", "size": stored.size}
    values |= {"sha256": stored.sha256, "md5": stored.md5}
    with services.db.write(DEFAULT_TENANT) as session:
        return Reference(id=repo.add(session, DEFAULT_TENANT, [values], test=test)[0].id)


def age(services: Services, seconds: int) -> None:
    """Let everything be as old as if so many seconds had passed."""
    with services.db.write() as session:
        session.execute(update(ATTACHMENTS).values(last_used_at=db_now(-seconds)))
        session.execute(update(BLOBS).values(kept_until=db_now(repo.GRACE - seconds)))


def run(services: Services, days: int = 30) -> int:
    """Return how many rows were deleted."""
    before = left(services)
    while expire.expire(services.db, services.blobs, days):
        pass
    return sum(before[:2]) - sum(left(services)[:2])


def left(services: Services) -> tuple[int, int, int]:
    """Return how many attachments, blobs and files there are."""
    with services.db.read() as session:
        rows = [len(session.execute(select(table)).all()) for table in (ATTACHMENTS, BLOBS)]
    return rows[0], rows[1], len(list(services.blobs.keys("")))


def test_a_content_without_a_row_is_kept_for_an_hour_and_then_deleted_with_its_file(installed: Services):
    take(installed, b"one")
    age(installed, repo.GRACE - 100)
    assert run(installed) == 0
    assert left(installed) == (0, 1, 1)
    age(installed, repo.GRACE + 100)
    assert run(installed) == 1
    assert left(installed) == (0, 0, 0)


def test_an_attachment_is_kept_for_its_days_after_its_last_use(installed: Services):
    reference = named(installed, take(installed, b"one"))
    age(installed, 29 * DAY)
    assert run(installed) == 0
    find.files(installed.db, installed.blobs, WHO, [reference], most=1000)
    age(installed, 0)
    assert left(installed) == (1, 1, 1)
    age(installed, 31 * DAY)
    assert run(installed, days=0) == 0  # for ever
    assert run(installed) == 1
    age(installed, 31 * DAY)  # its content was just seen in use, and is looked at again a day later
    assert run(installed) == 1
    assert left(installed) == (0, 0, 0)


def test_using_an_attachment_keeps_it(installed: Services):
    reference = named(installed, take(installed, b"one"))
    age(installed, 31 * DAY)
    [found] = find.files(installed.db, installed.blobs, WHO, [reference], most=1000)
    assert isinstance(found, find.FoundFile)
    assert run(installed) == 0
    assert left(installed) == (1, 1, 1)


@pytest.fixture
def messages_files() -> Iterator[Table]:
    """A table of another room that refers to blobs."""
    table = Table(
        "files_of_messages",
        Base.metadata,
        Column("tenant_id", Uuid()),
        Column("digest", String(64)),
        ForeignKeyConstraint(["tenant_id", "digest"], ["blobs.tenant_id", "blobs.sha256"]),
    )
    yield table
    Base.metadata.remove(table)


def test_a_content_that_any_row_refers_to_is_never_deleted(messages_files: Table, installed: Services):
    messages_files.create(installed.db.engine)
    needed, other = take(installed, b"needed"), take(installed, b"other")
    with installed.db.write() as session:
        session.execute(insert(messages_files).values(tenant_id=DEFAULT_TENANT, digest=needed.sha256))
    age(installed, 1000 * DAY)
    assert run(installed) == 1
    assert installed.blobs.size(key_of(DEFAULT_TENANT, other.object_id)) is None
    assert left(installed) == (0, 1, 1)
    with installed.db.write() as session:
        session.execute(delete(messages_files))
    assert run(installed) == 0  # it was just looked at
    age(installed, 2 * DAY)
    assert run(installed) == 1
    assert left(installed) == (0, 0, 0)
    messages_files.drop(installed.db.engine)


def test_more_than_one_batch_goes(installed: Services, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expire, "BATCH", 3)
    used = {named(installed, take(installed, bytes([number]))) for number in range(5)}
    for number in range(5, 12):
        take(installed, bytes([number]))
    age(installed, 2 * DAY)
    assert run(installed) == 7
    assert left(installed) == (5, 5, 5)
    found = find.files(installed.db, installed.blobs, WHO, list(used), most=1000)
    assert all(isinstance(one, find.FoundFile) for one in found)


def test_an_upload_of_a_content_that_is_just_deleted_has_a_file_of_its_own(installed: Services):
    old = take(installed, b"one")
    age(installed, 2 * DAY)
    deleted: list[str] = []
    with installed.db.write() as session:
        deleted += expire._contents(session)[1]
    new = take(installed, b"one")  # after the row went, and before the file does
    assert new.object_id != old.object_id
    installed.blobs.delete(deleted)
    with installed.blobs.open(key_of(DEFAULT_TENANT, new.object_id)) as blocks:
        assert b"".join(blocks) == b"one"
    assert left(installed) == (0, 1, 1)


def test_rows_that_wait_for_files_that_never_come_go(installed: Services):
    values = {"filename": "x.txt", "content_type": "text/plain", "size": 3, "awaited": f"md5-{'a' * 32}"}
    with installed.db.write(DEFAULT_TENANT) as session:
        repo.add(session, DEFAULT_TENANT, [values], test=False)
    age(installed, DAY)
    assert run(installed) == 0
    age(installed, 3 * DAY)
    assert run(installed, days=0) == 1
    assert left(installed) == (0, 0, 0)


def test_uploads_that_nobody_named_go_after_two_days(installed: Services, monkeypatch: pytest.MonkeyPatch):
    kept = take(installed, b"one")
    installed.blobs.put(uploads.key(DEFAULT_TENANT, f"md5-{'a' * 32}", test=False), [b"nobody's"])
    expire.forget_uploads(installed.blobs)
    assert left(installed) == (0, 1, 2)
    monkeypatch.setattr(expire, "AWAITED_SECONDS", -60)
    expire.forget_uploads(installed.blobs)
    assert [found.key for found in installed.blobs.keys("")] == [key_of(DEFAULT_TENANT, kept.object_id)]


def test_a_store_that_is_away_leaves_files_that_a_check_finds(installed: Services):
    take(installed, b"one")
    age(installed, 2 * DAY)
    folder = installed.settings.var / "blobs"
    folder.rename(folder.with_name("away"))
    with pytest.raises(BlobStoreUnavailable):
        expire.expire(installed.db, installed.blobs, 30)
    folder.with_name("away").rename(folder)
    assert left(installed) == (0, 0, 1)
