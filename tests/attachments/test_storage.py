"""What a tenant may store: each way that stores files counts, exactly, and none goes beyond the limit."""

import hashlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from sqlalchemy import delete, update

from mailbbgun.attachments import expire, repo, store
from mailbbgun.attachments.models import ATTACHMENTS, BLOBS
from mailbbgun.core.errors import StorageFull
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import db_now
from mailbbgun.services import Services
from mailbbgun.tenants import storage
from mailbbgun.tenants.models import STORAGE, TENANTS
from tests.tenants.conftest import HELLO, Locked, code

FULL = (507, "storage_full")


def upload(door: Locked, key: str, content: bytes, name: str = "a.txt") -> requests.Response:
    return door.ask("POST", "/attachments", key, files={"file": (name, content)})


def sends(door: Locked, key: str, content: bytes) -> requests.Response:
    files = [{"filename": "a.txt", "content": b64encode(content).decode()}]
    return door.ask("POST", "/messages", key, json=HELLO | {"attachments": files})


def presign(door: Locked, key: str, content: bytes) -> requests.Response:
    wanted = {"filename": "a.txt", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return door.ask("POST", "/attachments/presign", key, json=wanted)


def keep(door: Locked, key: str, content: bytes) -> requests.Response:
    return door.ask("PUT", "/files?name=a.txt&replace=true", key, data=content)


def owner(door: Locked, name: str, **limits: Any) -> tuple[str, str]:
    """Return a new tenant, and a key of it."""
    tenant = door.tenant(name, **limits)
    return tenant, door.key(tenant, scopes=["messages:write", "messages:read", "files"])["key"]


def used(door: Locked, tenant: str) -> int:
    return door.ask("GET", f"/tenants/{tenant}", door.admin).json()["storage_used"]


def test_each_way_to_store_a_file_is_refused_beyond_the_limit(door: Locked) -> None:
    tenant, key = owner(door, "full", max_storage=1000)
    assert upload(door, key, b"a" * 600).status_code == 201
    for way in (upload, sends, presign, keep):
        answer = way(door, key, b"b" * 401)
        assert code(answer) == FULL, way
        assert "600 of the 1000" in answer.json()["error"]["message"]
    assert upload(door, key, b"a" * 600, "again.txt").status_code == 201  # the same content costs nothing
    assert sends(door, key, b"b" * 400).status_code == 201
    assert used(door, tenant) == 1000
    assert len([*door.services.blobs.keys(f"{tenant.replace('-', '')}/")]) == 2  # nothing is left of those refused
    shown = door.ask("GET", "/tenants", door.admin).json()["tenants"]
    assert [(one["max_storage"], one["storage_used"]) for one in shown if one["id"] == tenant] == [(1000, 1000)]
    assert door.ask("PATCH", f"/tenants/{tenant}", door.admin, json={"max_storage": None}).status_code == 200
    assert upload(door, key, b"c" * 2000).status_code == 201
    assert used(door, tenant) == 3000


def test_urls_for_uploads_are_given_only_for_room_that_there_is(door: Locked) -> None:
    tenant, key = owner(door, "signed", max_storage=1000)
    first = presign(door, key, b"a" * 600)
    assert first.status_code == 200
    assert code(presign(door, key, b"b" * 600)) == FULL
    assert used(door, tenant) == 0
    assert door.ask("DELETE", f"/attachments/{first.json()['id']}", key).status_code == 204
    assert presign(door, key, b"b" * 600).status_code == 200


def test_uploads_at_once_do_not_have_more_than_the_limit_together(door: Locked) -> None:
    tenant, key = owner(door, "busy", max_storage=1000)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: upload(door, key, bytes([65 + n]) * 300).status_code, range(8)))
    assert sorted(answers) == [201] * 3 + [507] * 5
    assert used(door, tenant) == 900


def test_what_is_deleted_makes_room(installed: Services) -> None:
    take = lambda content: store.take(installed.db, installed.blobs, DEFAULT_TENANT, [content], most=1000)  # noqa: E731
    with installed.db.write() as session:
        session.execute(update(TENANTS).values(max_storage=1000))
    take(b"a" * 700)
    with pytest.raises(StorageFull):
        take(b"b" * 301)
    with installed.db.write() as session:
        session.execute(update(BLOBS).values(kept_until=db_now(-1)))
    assert not expire.expire(installed.db, installed.blobs, 30)
    take(b"b" * 1000)
    with installed.db.write() as session:
        session.execute(delete(STORAGE))  # an older version, which did not count, was at work
        repo.count_storage(session, DEFAULT_TENANT)
        assert storage.used(session, DEFAULT_TENANT) == 1000
        assert session.execute(ATTACHMENTS.select()).all() == []
