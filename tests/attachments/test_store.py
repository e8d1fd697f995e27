"""Uploads are stored once for each tenant, whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from mailbbgun.attachments import repo, store
from mailbbgun.attachments.models import BLOBS, key_of
from mailbbgun.attachments.store import AHEAD, StoredFile
from mailbbgun.core.errors import BlobStoreUnavailable, TooLarge
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.services import Services

SMALL, LARGE = b"a small file", os.urandom(3 * AHEAD)
MOST = 10 * AHEAD


def pieces(content: bytes) -> Iterator[bytes]:
    yield from (content[start : start + 50_000] for start in range(0, len(content), 50_000))


def take(services: Services, content: bytes, tenant=DEFAULT_TENANT, **options) -> StoredFile:
    return store.take(services.db, services.blobs, tenant, pieces(content), **{"most": MOST, **options})


def stored_files(services: Services) -> list[str]:
    return [found.key for found in services.blobs.keys("")]


def rows(services: Services) -> list[tuple]:
    with services.db.read() as session:
        return [tuple(row) for row in session.execute(select(BLOBS.c.tenant_id, BLOBS.c.sha256, BLOBS.c.object_id))]


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_an_upload_is_stored_under_its_digests(installed: Services, content: bytes):
    stored = take(installed, content)
    assert (stored.sha256, stored.md5, stored.size) == (
        hashlib.sha256(content).hexdigest(),
        hashlib.md5(content).hexdigest(),
        len(content),
    )
    with installed.blobs.open(key_of(DEFAULT_TENANT, stored.object_id)) as blocks:
        assert b"".join(blocks) == content


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_the_same_content_is_stored_once_for_each_tenant(installed: Services, content: bytes):
    other = new_id()
    first, second = take(installed, content), take(installed, content)
    assert second == first
    theirs = take(installed, content, tenant=other)
    assert theirs.object_id != first.object_id
    assert len(stored_files(installed)) == 2
    assert sorted(row[0] for row in rows(installed)) == sorted([DEFAULT_TENANT, other])


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_an_upload_brings_back_a_file_that_was_lost(installed: Services, content: bytes):
    lost = take(installed, content)
    installed.blobs.delete([key_of(DEFAULT_TENANT, lost.object_id)])
    found = take(installed, content)
    assert found.object_id != lost.object_id
    assert stored_files(installed) == [key_of(DEFAULT_TENANT, found.object_id)]
    assert [row[2] for row in rows(installed)] == [found.object_id]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_is_too_large_leaves_nothing(installed: Services, content: bytes):
    with pytest.raises(TooLarge, match=r"'plan\.pdf' is larger than 11 bytes"):
        take(installed, content, most=11, name="plan.pdf")
    assert (stored_files(installed), rows(installed), parts(installed)) == ([], [], [])


def test_an_upload_that_breaks_off_leaves_nothing(installed: Services):
    def broken() -> Iterator[bytes]:
        yield from pieces(LARGE)
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError, match="the client left"):
        store.take(installed.db, installed.blobs, DEFAULT_TENANT, broken(), most=MOST)
    assert (stored_files(installed), rows(installed), parts(installed)) == ([], [], [])


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_nothing_is_stored_while_the_store_is_away(installed: Services, content: bytes, tmp_path: Path):
    folder = installed.settings.var / "blobs"
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BlobStoreUnavailable) as raised:
        take(installed, content)
    assert raised.value.retry_after == 5
    assert not folder.exists()
    assert rows(installed) == []


def test_a_blob_is_kept_for_a_while_after_each_upload(installed: Services):
    stored = take(installed, SMALL)
    with installed.db.write() as session:
        session.execute(BLOBS.update().values(kept_until=BLOBS.c.created_at))
    take(installed, SMALL)
    with installed.db.read() as session:
        found = repo.blob(session, DEFAULT_TENANT, stored.sha256)
    assert found is not None
    assert found.kept_until > found.created_at


def parts(services: Services) -> list[Path]:
    return list((services.settings.var / "blobs" / "parts").iterdir())
