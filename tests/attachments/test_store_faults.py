"""Files over HTTP while the store is away, and when a file in it is damaged or lost."""

import hashlib
from urllib.parse import urlsplit

import requests
from sqlalchemy import select

from mailbbgun.attachments.models import Blob, key_of
from mailbbgun.core.ids import DEFAULT_TENANT
from tests.attachments.test_api import WITH_FOLDER, WITH_S3, ask, download, fresh, presigned, put, uploaded
from tests.tenants.conftest import Locked, code
from tests.waiting import PATIENCE


@WITH_FOLDER
def test_a_store_that_is_away_is_answered_503_and_told_by_ready(door: Locked) -> None:
    content = fresh()
    made = presigned(door, content)
    folder = door.services.settings.var / "blobs"
    folder.rename(folder.with_name("away"))
    try:
        for answer in (put(made, content), ask(door, "GET", f"/attachments/{made['id']}/content")):
            assert code(answer) == (503, "unavailable")
            assert answer.headers["Retry-After"] == "5"
            assert answer.json()["error"]["message"] == "the store of files is not available"
        assert door.call("GET", "/ready").json()["parts"]["blobs"] == "the store of files is not available"
    finally:
        folder.with_name("away").rename(folder)
    assert put(made, content).ok
    assert download(door, made["id"]).content == content
    assert door.call("GET", "/ready").json()["parts"]["blobs"] == "ok"


@WITH_FOLDER
def test_a_file_that_is_damaged_or_lost_is_never_given_out_whole(door: Locked) -> None:
    content = fresh()
    made = uploaded(door, content)
    assert download(door, made["id"]).content == content
    its = Blob.sha256 == hashlib.sha256(content).hexdigest()
    with door.services.db.read() as session:
        [object_id] = session.scalars(select(Blob.object_id).where(its))
    path = door.services.settings.var / "blobs" / key_of(DEFAULT_TENANT, object_id)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert download(door, made["id"]).status_code == 500
    path.unlink()
    assert code(download(door, made["id"])) == (500, "content_missing")
    test = door.key(str(DEFAULT_TENANT), kind="test")["key"]
    download(door, uploaded(door, content, test)["id"], test)  # brings it back
    assert download(door, made["id"]).content == content


@WITH_S3
def test_links_to_a_bucket_end_and_are_for_one_file(door: Locked) -> None:
    made = [uploaded(door, fresh())["id"] for _ in range(2)]
    links = [ask(door, "GET", f"/attachments/{one}/content").headers["Location"] for one in made]
    assert "X-Amz-Expires=300" in links[0]
    swapped = links[0].replace(*(urlsplit(link).path for link in links))
    assert requests.get(swapped, timeout=PATIENCE).status_code == 403
