"""The contract of ``mailbbgun/blobs/base.py``, for every driver."""

import os
import threading
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailbbgun.blobs import url
from mailbbgun.blobs.base import BLOCK, BlobStore
from mailbbgun.blobs.folder import Folder
from mailbbgun.blobs.s3 import PUTS_AT_ONCE, S3
from mailbbgun.core.errors import BlobMissing, BlobStoreUnavailable
from tests.servers import RGW

#: More than two parts of S3, and no whole number of blocks.
LARGE = os.urandom(11 * 1024 * 1024 + 17)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    """Each driver in turn, with an empty store."""
    made: BlobStore
    if request.param == "folder":
        made = Folder(tmp_path / "some" / "blobs")
    else:
        bucket = url.read(request.getfixturevalue("rgw").url())
        assert isinstance(bucket, url.Bucket)
        made = S3(bucket)
    made.prepare()
    yield made
    made.close()


def pieces(content: bytes, size: int = 50_000) -> Iterator[bytes]:
    yield from (content[start : start + size] for start in range(0, len(content), size))


def read(store: BlobStore, key: str) -> bytes:
    with store.open(key) as blocks:
        found = list(blocks)
    assert max(map(len, found), default=0) <= BLOCK
    return b"".join(found)


def keys(store: BlobStore, prefix: str = "") -> list[str]:
    return [found.key for found in store.keys(prefix)]


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size not known"])
@pytest.mark.parametrize("content", [b"", b"x", b"x" * BLOCK, LARGE], ids=["empty", "byte", "block", "large"])
def test_a_file_is_read_as_it_was_stored(store: BlobStore, content: bytes, known: bool) -> None:
    assert store.put("t1/ab/file", pieces(content), len(content) if known else None) == len(content)
    assert store.size("t1/ab/file") == len(content)
    assert read(store, "t1/ab/file") == content
    assert [(found.key, found.size) for found in store.keys("")] == [("t1/ab/file", len(content))]


def test_preparing_and_checking_a_store_may_be_repeated(store: BlobStore) -> None:
    store.put("kept", [b"x"])
    store.prepare()
    store.check()
    assert read(store, "kept") == b"x"


def test_a_file_that_does_not_exist_has_no_size_and_cannot_be_opened_or_copied(store: BlobStore) -> None:
    assert store.size("t1/none") is None
    with pytest.raises(BlobMissing), store.open("t1/none"):
        raise AssertionError("it was opened")
    with pytest.raises(BlobMissing):
        store.copy("t1/none", "t1/other")
    assert keys(store) == []


def test_a_file_is_replaced_by_a_later_one(store: BlobStore) -> None:
    store.put("t1/file", [b"first, and longer"])
    store.put("t1/file", [b"second"])
    assert read(store, "t1/file") == b"second"


@pytest.mark.parametrize("sent", [0, 60_000, len(LARGE) - 1], ids=["at once", "early", "late"])
def test_what_breaks_off_is_not_stored_and_does_not_replace_what_was(store: BlobStore, sent: int) -> None:
    def broken() -> Iterator[bytes]:
        yield from pieces(LARGE[:sent])
        raise ConnectionResetError("the client left")

    store.put("t1/old", [b"old"])
    for key in ("t1/old", "t1/new"):
        with pytest.raises(ConnectionResetError, match="the client left"):
            store.put(key, broken())
    assert read(store, "t1/old") == b"old"
    assert keys(store) == ["t1/old"]


@pytest.mark.parametrize("content", [b"x" * 100, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("more", [-99, -1, 1, 100_000])
def test_a_file_of_another_size_than_announced_is_not_stored(store: BlobStore, content: bytes, more: int) -> None:
    said = len(content) + more
    with pytest.raises(ValueError, match=f"a file of {said} bytes was announced"):
        store.put("t1/new", pieces(content), said)
    assert keys(store) == []


def test_a_copy_stays_when_the_first_is_replaced_or_deleted(store: BlobStore) -> None:
    store.put("uploads/one", [b"first"])
    store.copy("uploads/one", "t1/copy")
    store.put("uploads/one", [b"second"])
    assert read(store, "t1/copy") == b"first"
    store.delete(["uploads/one"])
    assert read(store, "t1/copy") == b"first"
    assert keys(store) == ["t1/copy"]


def test_files_are_deleted_and_missing_ones_are_no_error(store: BlobStore) -> None:
    for name in ("one", "two", "three"):
        store.put(f"t1/{name}", [b"x"])
    store.delete(["t1/one", "t1/none", "t2/none", "t1/two"])
    store.delete([])
    assert keys(store) == ["t1/three"]


def test_files_are_listed_by_prefix_with_size_and_time(store: BlobStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    for key in ("t1/aa/one", "t1/ab/two", "t2/aa/three", "t10/aa/four"):
        store.put(key, [b"xy"])
    assert sorted(keys(store)) == ["t1/aa/one", "t1/ab/two", "t10/aa/four", "t2/aa/three"]
    assert sorted(keys(store, "t1/")) == ["t1/aa/one", "t1/ab/two"]
    assert keys(store, "t3/") == []
    assert all(found.size == 2 and before < found.modified for found in store.keys(""))


@pytest.mark.parametrize("key", ["../out", "/abs", "t1//two", "T1/upper", "t1/ü", "t1/.hidden", "", "t1/a b", "t1/x\n"])
def test_a_key_that_could_leave_the_store_is_refused(store: BlobStore, key: str) -> None:
    for use in (store.size, lambda one: store.put(one, [b"x"]), lambda one: store.copy(one, "t1/x")):
        with pytest.raises(ValueError, match="is no key"):
            use(key)


def test_many_store_the_same_key_at_once_and_one_of_them_wins_whole(store: BlobStore) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    threads = [threading.Thread(target=store.put, args=("t1/same", list(pieces(one)))) for one in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(store, "t1/same") in contents
    assert keys(store) == ["t1/same"]


def test_storing_and_reading_a_file_takes_bounded_memory(store: BlobStore) -> None:
    block = os.urandom(BLOCK)

    def run(size: int) -> int:
        tracemalloc.start()
        store.put("t1/large", (block for _ in range(size // BLOCK)))
        with store.open("t1/large") as blocks:
            assert sum(map(len, blocks)) == size
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert run(48 * 1024 * 1024) < 1.3 * max(run(16 * 1024 * 1024), 1024 * 1024)
    assert PUTS_AT_ONCE * run(48 * 1024 * 1024) < 64 * 1024 * 1024


def test_a_file_that_is_read_only_in_part_does_not_disturb_the_next(store: BlobStore) -> None:
    store.put("t1/large", pieces(LARGE))
    store.put("t1/small", [b"small"])
    for _ in range(20):
        with store.open("t1/large") as blocks:
            assert LARGE.startswith(next(blocks))
        assert read(store, "t1/small") == b"small"


def test_links_of_s3_store_and_show_a_file_and_end(rgw: RGW) -> None:
    bucket = url.read(rgw.url())
    assert isinstance(bucket, url.Bucket)
    store = S3(bucket)
    store.prepare()
    link = store.presigned_put("uploads/one", 60)
    assert link is not None
    urllib.request.urlopen(urllib.request.Request(link, b"content", {"Content-Type": "text/plain"}, method="PUT"))
    shown = store.presigned_get("uploads/one", 60, "attachment; filename*=UTF-8''%C3%BC.txt", "text/html")
    assert shown is not None
    with urllib.request.urlopen(shown) as answer:
        assert answer.read() == b"content"
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC.txt"
        assert answer.headers["Content-Type"] == "text/html"
    signed_otherwise = shown[:-1] + ("1" if shown.endswith("0") else "0")
    for wrong in (shown.replace("attachment", "inline"), shown.replace("/one?", "/two?"), signed_otherwise):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(wrong)
    store.close()


def test_a_folder_has_no_links(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    assert store.presigned_put("uploads/one", 60) is None
    assert store.presigned_get("uploads/one", 60, "attachment", "text/plain") is None


def test_cleaning_removes_only_old_parts(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    store.prepare()
    store.put("t1/file", [b"x"])
    old, new = (tmp_path / "parts" / (digit * 32) for digit in "ab")
    for part in (old, new):
        part.write_bytes(b"half a fi")
    os.utime(old, (1, 1))
    assert keys(store) == ["t1/file"]
    store.clean(datetime.now(UTC) - timedelta(days=1))
    assert (old.exists(), new.exists(), keys(store)) == (False, True, ["t1/file"])


def test_a_bucket_that_may_not_be_made_says_why(rgw: RGW) -> None:
    bucket = url.read(rgw.url().replace("testsecret", "wrong-secret"))
    assert isinstance(bucket, url.Bucket)
    with pytest.raises(BlobStoreUnavailable) as raised:
        S3(bucket).prepare()
    assert raised.value.refused
    assert str(raised.value.told["address"]).endswith("the access key may not do this")
