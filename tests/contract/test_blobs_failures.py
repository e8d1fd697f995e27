"""The stores of files while a server or a disk fails."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailbbgun.blobs import url
from mailbbgun.blobs.base import BlobStore
from mailbbgun.blobs.folder import Folder
from mailbbgun.blobs.s3 import READ_SECONDS, S3
from mailbbgun.core.errors import BlobStoreUnavailable, explained
from tests.servers import RGW
from tests.waiting import bounded, wait_until

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(11 * 1024 * 1024)
PART = 5 * 1024 * 1024


def s3(where: str, read_seconds: float = READ_SECONDS) -> S3:
    bucket = url.read(where)
    assert isinstance(bucket, url.Bucket)
    return S3(bucket, read_seconds=read_seconds)


@pytest.fixture(scope="module")
def bucket(breakable_rgw: RGW) -> str:
    """The URL of a bucket. It is made before a gateway is killed: another gateway then waits for the
    dead one, for half a minute, whenever it makes a bucket.
    """
    where = breakable_rgw.url()
    s3(where).prepare()
    return where


def emptied(store: S3) -> S3:
    store.delete([found.key for found in store.keys("")])
    return store


def operations(store: BlobStore) -> list[Callable[[], object]]:
    def opened() -> bytes:
        with store.open("t1/kept") as blocks:
            return b"".join(blocks)

    return [
        store.check,
        store.prepare,
        opened,
        lambda: store.size("t1/kept"),
        lambda: store.size("t1/none"),
        lambda: store.put("t1/new", [b"x"]),
        lambda: store.put("t1/new", [LARGE]),
        lambda: store.copy("t1/kept", "t1/new"),
        lambda: store.delete(["t1/kept"]),
        lambda: list(store.keys("")),
    ]


def refuses_everything(store: BlobStore) -> None:
    for operation in operations(store):
        with bounded("an operation during an outage"), pytest.raises(BlobStoreUnavailable) as raised:
            operation()
        # Clients do not learn where it is, the log does.
        assert str(raised.value) == "the store of files is not available"
        assert "address" in raised.value.told
        assert explained(raised.value)


def works(store: BlobStore) -> bool:
    try:
        store.check()
    except BlobStoreUnavailable:
        return False
    return True


def test_s3_that_was_killed_is_away_in_time_and_has_everything_when_it_is_back(breakable_rgw: RGW, bucket: str) -> None:
    store = emptied(s3(bucket))
    store.put("t1/kept", [LARGE])
    breakable_rgw.kill9()
    refuses_everything(store)
    breakable_rgw.start()
    wait_until(lambda: works(store))
    with store.open("t1/kept") as blocks:
        assert b"".join(blocks) == LARGE
    assert [found.key for found in store.keys("")] == ["t1/kept"]


def test_s3_that_hangs_is_away_in_time(breakable_rgw: RGW, bucket: str) -> None:
    store = emptied(s3(bucket))
    store.put("t1/kept", [b"x"])
    hurried = s3(bucket, read_seconds=0.5)
    breakable_rgw.pause()
    try:
        for operation in (lambda: hurried.put("t1/kept", [b"y"]), lambda: hurried.put("t1/new", [LARGE])):
            with bounded("a put while the disk hangs"), pytest.raises(BlobStoreUnavailable):
                operation()
    finally:
        breakable_rgw.resume()
    wait_until(lambda: works(store))
    # A put without an answer may have been carried out; but the file is whole.
    with store.open("t1/kept") as blocks:
        assert b"".join(blocks) in (b"x", b"y")


def test_s3_that_dies_amid_a_large_file_stores_nothing_of_it(breakable_rgw: RGW, bucket: str) -> None:
    store = emptied(s3(bucket))

    def dying() -> Iterator[bytes]:
        yield LARGE[: PART + 1]
        breakable_rgw.kill9()
        yield LARGE[PART + 1 :]

    with bounded("a put whose server dies"), pytest.raises(BlobStoreUnavailable):
        store.put("t1/new", dying())
    breakable_rgw.start()
    wait_until(lambda: works(store))
    assert list(store.keys("")) == []


def test_s3_that_dies_amid_a_download_ends_it_with_an_error(breakable_rgw: RGW, bucket: str) -> None:
    store = emptied(s3(bucket))
    store.put("t1/kept", [LARGE * 3])  # more than the sockets' buffers hold
    with store.open("t1/kept") as blocks:
        first = next(blocks)
        breakable_rgw.kill9()
        with bounded("the rest of a download"), pytest.raises(BlobStoreUnavailable):
            b"".join(blocks)
    assert LARGE.startswith(first)
    breakable_rgw.start()
    wait_until(lambda: works(store))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("testkey:", "otherkey:"), "it does not know the access key"),
        (("testsecret", "othersecret"), "the secret key is wrong"),
        (("/test-", "/missing-test-"), "there is no such bucket"),
    ],
)
def test_s3_that_refuses_us_says_why_to_the_log(rgw: RGW, wrong: tuple[str, str], why: str) -> None:
    store = s3(rgw.url().replace(*wrong))
    for operation in (lambda: store.put("t1/new", [b"x"]), lambda: store.put("t1/new", [LARGE])):
        with pytest.raises(BlobStoreUnavailable) as raised:
            operation()
        assert raised.value.refused
        assert str(raised.value.told["address"]).endswith(f": {why}")


def test_a_folder_that_is_gone_is_away_and_is_not_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    store = Folder(root)
    store.prepare()
    store.put("t1/kept", [b"x"])
    root.rename(tmp_path / "elsewhere")
    for operation in [one for one in operations(store) if one != store.prepare]:
        with pytest.raises(BlobStoreUnavailable, match="the store of files is not available"):
            operation()
    assert not root.exists()
    (tmp_path / "elsewhere").rename(root)
    with store.open("t1/kept") as blocks:
        assert b"".join(blocks) == b"x"


def test_a_folder_that_cannot_be_made_or_written_says_why_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = Folder(tmp_path / "file" / "blobs")
    refuses_everything(store)
    with pytest.raises(BlobStoreUnavailable) as raised:
        store.prepare()
    assert raised.value.told["address"] == f"{tmp_path / 'file' / 'blobs'}: File exists"


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk does not."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_a_full_disk_keeps_what_was_and_leaves_no_part(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    store.prepare()
    store.put("t1/kept", [b"old"])
    with files_end_at(1_000_000):
        for key in ("t1/kept", "t1/new"):
            with pytest.raises(BlobStoreUnavailable) as raised:
                store.put(key, [LARGE])
            assert raised.value.told["address"] == f"{tmp_path}: File too large"
    with files_end_at(1000), pytest.raises(BlobStoreUnavailable):
        store.check()
    assert [(found.key, found.size) for found in store.keys("")] == [("t1/kept", 3)]
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_process_that_is_killed_leaves_no_half_file_under_a_key(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    store.prepare()
    store.put("t1/kept", [b"old"])
    program = (
        "import sys; from pathlib import Path; from mailbbgun.blobs.folder import Folder\n"
        f"Folder(Path({str(tmp_path)!r})).put('t1/kept', iter(lambda: sys.stdin.buffer.read(65536), b''))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(LARGE)
        wait_until(lambda: any(part.stat().st_size > 1_000_000 for part in (tmp_path / "parts").iterdir()))
        process.kill()
    with store.open("t1/kept") as blocks:
        assert b"".join(blocks) == b"old"
    assert [found.key for found in store.keys("")] == ["t1/kept"]
