"""Files are found by what a message says of them."""

import hashlib
import threading

import pytest

from mailbbgun.attachments import find, repo, store, uploads
from mailbbgun.attachments.find import NO_ATTACHMENT, FoundFile, Missing, Reference
from mailbbgun.attachments.models import BLOBS, key_of
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.errors import BlobStoreUnavailable
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.services import Services

LIVE, TEST, OTHER = Caller(DEFAULT_TENANT), Caller(DEFAULT_TENANT, kind=KeyKind.TEST), Caller(new_id())
MOST = 1000


def take(services: Services, content: bytes) -> StoredFile:
    return store.take(services.db, services.blobs, DEFAULT_TENANT, [content], most=MOST)


def add(services: Services, test: bool = False, **values: object) -> Reference:
    shown = {"filename": "x.txt", "content_type": "text/plain", "size": 3} | values
    with services.db.write(DEFAULT_TENANT) as session:
        return Reference(id=repo.add(session, DEFAULT_TENANT, [shown], test=test)[0].id)


def named(services: Services, stored: StoredFile, test: bool = False) -> Reference:
    return add(services, test, sha256=stored.sha256, md5=stored.md5, size=stored.size)


def files(services: Services, who: Caller, *references: Reference) -> list[FoundFile | Missing]:
    return find.files(services.db, services.blobs, who, references, most=MOST)


def test_files_are_found_by_id_and_digest_in_the_order_of_their_references(installed: Services):
    one, two = take(installed, b"one"), take(installed, b"two")
    references = (
        Reference(md5=two.md5, filename="second.bin"),
        named(installed, one),
        Reference(sha256=one.sha256, filename="first.bin", content_type="image/png"),
        Reference(id=new_id()),
        Reference(md5=two.md5, filename="second.bin"),
        Reference(sha256="a" * 64, filename="none.bin"),
        Reference(sha256=one.sha256),
    )
    second, by_id, first, unknown, again, none, nameless = files(installed, LIVE, *references)
    assert isinstance(second, FoundFile)
    assert isinstance(by_id, FoundFile)
    assert isinstance(first, FoundFile)
    assert (second.object_id, second.filename, second.content_type) == (two.object_id, "second.bin", None)
    assert (by_id.object_id, by_id.filename, by_id.content_type) == (one.object_id, "x.txt", "text/plain")
    assert (first.object_id, first.filename, first.content_type) == (one.object_id, "first.bin", "image/png")
    assert again == second
    assert unknown == Missing("id", NO_ATTACHMENT)
    assert none == Missing("sha256", "No file with this SHA-256 has been uploaded.")
    assert nameless == Missing("filename", "A file that is named by its digest needs a filename.")


def test_nothing_of_another_tenant_is_found(installed: Services):
    one = take(installed, b"one")
    references = [
        named(installed, one),
        Reference(sha256=one.sha256, filename="x"),
        Reference(md5=one.md5, filename="x"),
    ]
    assert all(isinstance(found, Missing) for found in files(installed, OTHER, *references))


def test_a_test_key_finds_only_what_test_keys_have_named(installed: Services):
    one = take(installed, b"one")
    digests = [Reference(sha256=one.sha256, filename="x"), Reference(md5=one.md5, filename="x")]
    assert all(isinstance(found, Missing) for found in files(installed, TEST, named(installed, one), *digests))
    its = named(installed, one, test=True)
    assert all(isinstance(found, FoundFile) for found in files(installed, TEST, its, *digests))
    assert isinstance(files(installed, LIVE, its)[0], FoundFile)


def test_a_file_that_is_found_is_kept_for_an_hour(installed: Services):
    one = take(installed, b"one")
    with installed.db.write() as session:
        session.execute(BLOBS.update().values(kept_until=BLOBS.c.created_at))
    files(installed, LIVE, Reference(sha256=one.sha256, filename="x"))
    with installed.db.read() as session:
        blob = repo.blob(session, DEFAULT_TENANT, one.sha256)
    assert blob is not None
    assert (blob.kept_until - blob.created_at).total_seconds() >= repo.GRACE - 1


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_an_upload_is_checked_once_for_all_that_wait_for_it(installed: Services, kind: str):
    digest = hashlib.new(kind, b"one").hexdigest()
    awaited = f"{kind}-{digest}"
    first, second = add(installed, awaited=awaited), add(installed, awaited=awaited, filename="y.txt")
    by_digest = Reference(sha256=digest, filename="z") if kind == "sha256" else Reference(md5=digest, filename="z")
    sentence = f"No file with this {'SHA-256' if kind == 'sha256' else 'MD5'} has been uploaded."
    assert files(installed, LIVE, first, by_digest) == [Missing("id", sentence), Missing(kind, sentence)]
    upload = uploads.key(DEFAULT_TENANT, awaited, test=False)
    installed.blobs.put(upload, [b"one"])
    found = files(installed, LIVE, by_digest, second, first)
    assert [one.filename for one in found if isinstance(one, FoundFile)] == ["z", "y.txt", "x.txt"]
    assert installed.blobs.size(upload) is None
    [file] = installed.blobs.keys("")
    assert file.size == 3


def test_an_attachment_whose_content_came_another_way_waits_no_longer(installed: Services):
    its = add(installed, awaited=f"sha256-{hashlib.sha256(b'one').hexdigest()}")
    one = take(installed, b"one")
    [found] = files(installed, LIVE, its)
    assert isinstance(found, FoundFile)
    with installed.db.read(DEFAULT_TENANT) as session:
        row = find.attachment(session, LIVE, its.id or new_id())
    assert (row.state, row.sha256, row.size) == ("stored", one.sha256, 3)


def test_an_upload_brings_back_a_file_that_was_lost(installed: Services):
    lost = take(installed, b"one")
    installed.blobs.delete([key_of(DEFAULT_TENANT, lost.object_id)])
    assert find.known(installed.db, installed.blobs, LIVE, "sha256", lost.sha256) is None
    its = add(installed, awaited=f"sha256-{lost.sha256}")
    installed.blobs.put(uploads.key(DEFAULT_TENANT, f"sha256-{lost.sha256}", test=False), [b"one"])
    [found] = files(installed, LIVE, its)
    assert isinstance(found, FoundFile)
    assert installed.blobs.size(key_of(DEFAULT_TENANT, found.object_id)) == 3


def test_a_wrong_upload_is_deleted_and_told(installed: Services):
    awaited = f"md5-{hashlib.md5(b'one').hexdigest()}"
    its, upload = add(installed, awaited=awaited), uploads.key(DEFAULT_TENANT, awaited, test=False)
    for content, told in (
        (b"two", "has the MD5 b8a9f715"),
        (b"four", "has 4 bytes and not 3"),
        (b"x" * 1001, "at most 1000"),
    ):
        installed.blobs.put(upload, [content])
        [missing] = files(installed, LIVE, its)
        assert isinstance(missing, Missing)
        assert told in missing.sentence
        assert list(installed.blobs.keys("")) == []


def test_an_upload_that_many_messages_name_at_once_is_found_by_all(installed: Services):
    awaited = f"md5-{hashlib.md5(b'one').hexdigest()}"
    its = add(installed, awaited=awaited)
    installed.blobs.put(uploads.key(DEFAULT_TENANT, awaited, test=False), [b"one"])
    found: list[FoundFile | Missing] = []
    threads = [threading.Thread(target=lambda: found.extend(files(installed, LIVE, its))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.object_id for one in found if isinstance(one, FoundFile)}) == 1
    assert len(found) == 6
    assert [one.key for one in installed.blobs.keys("")] == [key_of(DEFAULT_TENANT, found[0].object_id)]  # type: ignore[union-attr]  # no file is missing


def test_an_upload_cannot_be_used_while_the_store_is_away_and_nothing_changes(installed: Services):
    its = add(installed, awaited=f"md5-{'a' * 32}")
    folder = installed.settings.var / "blobs"
    folder.rename(folder.with_name("away"))
    with pytest.raises(BlobStoreUnavailable):
        files(installed, LIVE, its)
    folder.with_name("away").rename(folder)
    assert isinstance(files(installed, LIVE, its)[0], Missing)
