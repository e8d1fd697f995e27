"""Files without rows are deleted in small steps, and no others."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mailbbgun import services
from mailbbgun.attachments import store
from mailbbgun.attachments.models import key_of
from mailbbgun.blobs.folder import Folder
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.install import install
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.sweep import orphans
from mailbbgun.sweep.orphans import MARKS, RESTS, YOUNG, Orphans
from tests import tables


@pytest.fixture
def installed(backend: Settings) -> Iterator[Services]:
    """Services with tables, and a folder for files."""
    made = services.build(backend)
    tables.put_into(made.db)
    install(made)
    yield made
    made.close()


def put(installed: Services, key: str, *, age: int = YOUNG + 60) -> str:
    installed.blobs.put(key, [b"x"])
    then = (datetime.now(UTC) - timedelta(seconds=age)).timestamp()
    os.utime(installed.settings.var / "blobs" / key, (then, then))
    return key


def keys(installed: Services) -> set[str]:
    return {one.key for one in installed.blobs.keys("") if not one.key.startswith(f"{MARKS}/")}


def test_only_old_files_of_ours_that_no_row_knows_are_deleted(installed: Services) -> None:
    stored = store.take(installed.db, installed.blobs, DEFAULT_TENANT, [b"needed"], most=1000)
    kept = {
        put(installed, key_of(DEFAULT_TENANT, stored.object_id)),
        put(installed, key_of(DEFAULT_TENANT, new_id()), age=YOUNG - 600),
        put(installed, f"uploads/{DEFAULT_TENANT.hex}/live/sha256-{'a' * 64}"),
        put(installed, f"damaged/{key_of(DEFAULT_TENANT, new_id())}"),
        put(installed, f"{DEFAULT_TENANT.hex}/zz/{new_id().hex}"),
        put(installed, "of-somebody-else"),
    }
    gone = {put(installed, key_of(DEFAULT_TENANT, new_id())), put(installed, key_of(new_id(), new_id()))}
    sweep = Orphans(installed)
    assert sweep.step() == len(gone)
    assert keys(installed) == kept
    late = put(installed, key_of(DEFAULT_TENANT, new_id()))
    assert [sweep.step() for _ in range(RESTS)] == [0] * RESTS
    assert sweep.step() == 1
    assert late not in keys(installed)


def test_a_step_looks_at_few_files_and_the_next_goes_on(installed: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "STEP", 3)
    for _ in range(7):
        put(installed, key_of(DEFAULT_TENANT, new_id()))
    sweep = Orphans(installed)
    found = [sweep.step() for _ in range(4)]
    assert (sum(found), max(found), len(keys(installed))) == (7, 3, 0)


def test_nothing_is_deleted_from_a_store_that_another_installation_uses(installed: Services) -> None:
    orphan = put(installed, key_of(DEFAULT_TENANT, new_id()))
    put(installed, f"{MARKS}/{'0' * 64}")
    assert Orphans(installed).step() == 0
    assert keys(installed) == {orphan}


class Meanwhile(Folder):
    """The store, in which another installation begins while this one puts its mark."""

    def put(self, key: str, blocks: Iterable[bytes], size: int | None = None) -> int:
        stored = super().put(key, blocks, size)
        if key.startswith(f"{MARKS}/"):
            super().put(f"{MARKS}/{'0' * 64}", [b"x"])
        return stored


def test_of_two_installations_that_begin_at_once_one_sees_the_other(installed: Services) -> None:
    orphan = put(installed, key_of(DEFAULT_TENANT, new_id()))
    assert Orphans(replace(installed, blobs=Meanwhile(installed.settings.var / "blobs"))).step() == 0
    assert keys(installed) == {orphan}


def test_outside_of_var_nothing_is_deleted_unless_the_operator_says_that_the_store_is_ours(installed: Services) -> None:
    orphan = put(installed, key_of(DEFAULT_TENANT, new_id()))
    elsewhere = replace(installed.settings, BLOBS_URL="s3://key:secret@s3.example.com/shared")
    assert Orphans(replace(installed, settings=elsewhere)).step() == 0
    assert keys(installed) == {orphan}
    assert Orphans(replace(installed, settings=replace(elsewhere, DELETE_ORPHANS=True))).step() == 1
    assert keys(installed) == set()
