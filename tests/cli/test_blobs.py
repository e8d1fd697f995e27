"""``bin/mailbbgun blobs check``: faults on either side are found, and repaired."""

import os
from pathlib import Path

import pytest

from mailbbgun.attachments import store
from mailbbgun.attachments.models import BLOBS, key_of
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from tests.cli.conftest import Shell

OLD = (1, 1)


@pytest.fixture
def folder(shell: Shell) -> Path:
    """The store's folder, without files."""
    made = Path(shell.services.settings.var, "blobs")
    shell.services.blobs.delete([found.key for found in shell.services.blobs.keys("")])
    with shell.services.db.write() as session:
        session.execute(BLOBS.delete())
    return made


def take(shell: Shell, content: bytes, tenant=DEFAULT_TENANT) -> StoredFile:
    return store.take(shell.services.db, shell.services.blobs, tenant, [content], most=1000)


def path_of(folder: Path, stored: StoredFile) -> Path:
    return folder / key_of(stored.tenant_id, stored.object_id)


def check(shell: Shell, *options: str, code: int = 1) -> list[tuple[str, str | None]]:
    """Return each fault that is told, with the SHA-256 of its content."""
    return sorted((one["fault"], one["sha256"]) for one in shell.json("blobs", "check", *options, code=code)["faults"])


def test_a_store_without_faults_is_told_with_its_size(shell: Shell, folder: Path):
    take(shell, b"one")
    take(shell, b"two", tenant=new_id())
    done = shell.run("blobs", "check", "--deep")
    assert "2 files, 2 rows: no faults" in done.stderr


def test_faults_on_either_side_are_found_and_repaired(shell: Shell, folder: Path):
    good, lost, short, changed = (take(shell, content) for content in (b"good", b"lost", b"short", b"changed"))
    stranger = take(shell, b"of a tenant without files", tenant=new_id())
    path_of(folder, lost).unlink()
    path_of(folder, stranger).unlink()
    path_of(folder, short).write_bytes(b"shor")
    path_of(folder, changed).write_bytes(b"chanGed")
    orphan, fresh, foreign = (
        folder / name for name in (key_of(new_id(), new_id()), key_of(new_id(), new_id()), "readme")
    )
    for path in (orphan, fresh, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for path in (orphan, foreign):
        os.utime(path, OLD)
    missing = [("lost", one.sha256) for one in (lost, stranger)]
    quick = sorted([("damaged", short.sha256), *missing], key=lambda one: (one[0], one[1]))
    told = shell.json("blobs", "check", code=1)["faults"]
    assert sorted((one["fault"], one["sha256"]) for one in told if one["sha256"]) == quick
    assert sorted((one["fault"], one["key"]) for one in told if not one["sha256"]) == [
        ("foreign", "readme"),
        ("orphan", orphan.relative_to(folder).as_posix()),
    ]
    deep = [
        one["sha256"] for one in shell.json("blobs", "check", "--deep", code=1)["faults"] if one["fault"] == "damaged"
    ]
    assert sorted(deep) == sorted([short.sha256, changed.sha256])
    assert orphan.exists()
    shell.run("blobs", "check", "--deep", "--repair", code=1)  # what is lost cannot be made
    assert (orphan.exists(), fresh.exists(), foreign.exists(), path_of(folder, good).exists()) == (
        False,
        True,
        True,
        True,
    )
    assert (folder / "damaged" / key_of(DEFAULT_TENANT, changed.object_id)).read_bytes() == b"chanGed"
    for content in (b"lost", b"short", b"changed"):
        take(shell, content)
    take(shell, b"of a tenant without files", tenant=stranger.tenant_id)
    done = shell.run("blobs", "check", "--deep")
    assert "1 foreign" in done.stderr


def test_a_store_that_is_away_is_no_heap_of_lost_files(shell: Shell, folder: Path):
    take(shell, b"one")
    folder.rename(folder.with_name("away"))
    done = shell.run("blobs", "check", "--repair", code=1)
    assert "the store of files is not available" in done.stderr
    assert "lost" not in done.stdout
    folder.with_name("away").rename(folder)
    shell.run("blobs", "check")
