"""Shared files through the front door, with a folder and with S3."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from sqlalchemy import select, update

from mailbbgun.attachments.expire import expire as expire_contents
from mailbbgun.attachments.models import Blob
from mailbbgun.database.db import db_now
from mailbbgun.files.expire import expire
from mailbbgun.files.models import NamedFile
from tests.attachments.conftest import MOST
from tests.tenants.conftest import Locked, code, opened
from tests.waiting import PATIENCE

ALL = ["files", "messages:write", "messages:read"]


@pytest.fixture(scope="module", params=["folder", "s3"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """An API that requires keys: with SQLite and a folder, and with PostgreSQL and S3."""
    settings = {"MAX_FILE_SIZE": str(MOST)}
    if request.param == "s3":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
        settings["BLOBS_URL"] = request.getfixturevalue("rgw").url()
    with opened(tmp_path_factory.mktemp("shared"), 1, **settings) as made:
        made.services.blobs.prepare()
        yield made


class Sharer:
    """A tenant's keys."""

    def __init__(self, door: Locked, name: str) -> None:
        self.door, self.tenant = door, door.tenant(name)
        self.key = door.key(self.tenant, scopes=ALL)["key"]
        self.test_key = door.key(self.tenant, scopes=ALL, kind="test")["key"]

    def ask(self, method: str, path: str, *, test: bool = False, **options: Any) -> requests.Response:
        key = self.test_key if test else self.key
        return self.door.ask(method, path, key, allow_redirects=False, **options)

    def put(self, name: str, content: bytes, *, test: bool = False, **query: str) -> requests.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return self.ask("PUT", "/files", test=test, params={"name": name} | query, data=content, headers=headers)

    def kept(self, name: str, content: bytes, **options: Any) -> dict[str, Any]:
        answer = self.put(name, content, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def names(self, *, test: bool = False, **query: str) -> list[str]:
        found = self.ask("GET", "/files", test=test, params=query).json()
        assert found["count"] == len(found["files"])
        return [one["name"] for one in found["files"]]


@pytest.fixture
def sharer(door: Locked) -> Sharer:
    return Sharer(door, os.urandom(6).hex())


def followed(answer: requests.Response, **headers: str) -> requests.Response:
    """Return the content, wherever it is."""
    if answer.status_code == 302:
        return requests.get(answer.headers["Location"], headers=headers, timeout=PATIENCE)
    return answer


def test_a_file_is_kept_shown_renamed_and_deleted(sharer: Sharer) -> None:
    content = os.urandom(300_000)
    terms = {"metadata": '{"order": 12}', "expires_at": "2999-01-01T00:00:00Z"}
    made = sharer.kept("plans/2026/house.bin", content, **terms)
    assert (made["size"], made["metadata"], made["test"]) == (300_000, {"order": 12}, False)
    assert made["expires_at"] == "2999-01-01T00:00:00.000Z"
    path = f"/files/{made['id']}"
    assert sharer.ask("GET", path).json() == made
    found = followed(sharer.ask("GET", f"{path}/content"))
    assert found.content == content
    assert found.headers["Content-Disposition"].startswith('attachment; filename="house.bin"')
    again = sharer.put("plans/2026/house.bin", content)
    assert (again.status_code, again.json()) == (200, made)
    assert code(sharer.put("plans/2026/house.bin", b"another")) == (409, "conflict")
    changed = sharer.ask("PATCH", path, json={"name": "plans/home.bin", "metadata": {}, "expires_at": None}).json()
    assert (changed["name"], changed["metadata"], changed["expires_at"]) == ("plans/home.bin", {}, None)
    replaced = sharer.put("plans/home.bin", b"another", replace="true")
    assert (replaced.status_code, replaced.json()["id"], replaced.json()["size"]) == (200, made["id"], 7)
    assert followed(sharer.ask("GET", f"{path}/content")).content == b"another"
    assert sharer.ask("DELETE", path).status_code == 204
    for method, at in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path), ("POST", f"{path}/link")):
        body = {"json": {}} if method == "POST" else {}
        assert code(sharer.ask(method, at, **body)) == (404, "not_found")


def test_the_files_of_a_form_are_kept_in_a_folder_all_or_none(sharer: Sharer) -> None:
    form = [("file", ("may.txt", b"May", "text/plain")), ("file", ("june.txt", b"June", "text/plain"))]
    made = sharer.ask("POST", "/files", params={"folder": "reports"}, files=form)
    assert made.status_code == 201, made.text
    assert [one["name"] for one in made.json()["files"]] == ["reports/may.txt", "reports/june.txt"]
    again = sharer.ask("POST", "/files", params={"folder": "reports/"}, files=form)
    assert (again.status_code, again.json()) == (200, made.json())
    clash = [("file", ("july.txt", b"July", "text/plain")), ("file", ("may.txt", b"other", "text/plain"))]
    assert code(sharer.ask("POST", "/files", params={"folder": "reports"}, files=clash)) == (409, "conflict")
    assert sharer.names() == ["reports/june.txt", "reports/may.txt"]
    wrong = sharer.ask("POST", "/files", params={"folder": "../etc"}, files=form)
    assert code(wrong) == (400, "validation_error")
    assert "folder" in wrong.json()["error"]["fields"]
    assert code(sharer.ask("POST", "/files", data={"file": "text"}, files={"x": ("a.txt", b"")})) == (
        400,
        "validation_error",
    )


def test_lists_are_by_prefix_folder_and_content(sharer: Sharer) -> None:
    for name in ("top.txt", "a/one.txt", "a/b/two.txt", "A/big.txt", "a_/odd.txt", "ab.txt", "a/é.txt"):
        sharer.kept(name, name.encode())
    assert sharer.names(prefix="a/") == ["a/é.txt", "a/b/two.txt", "a/one.txt"]
    assert sharer.names(prefix="a") == ["a/é.txt", "ab.txt", "a_/odd.txt", "a/b/two.txt", "a/one.txt"]
    assert sharer.names(folder="a") == sharer.names(folder="a/") == ["a/é.txt", "a/one.txt"]
    assert sharer.names(folder="") == ["ab.txt", "top.txt"]
    assert sharer.names(name="A/big.txt") == ["A/big.txt"]
    first = sharer.ask("GET", "/files", params={"limit": 3}).json()
    rest = sharer.ask("GET", "/files", params={"limit": 10, "after": first["files"][-1]["id"]}).json()
    assert (first["count"], len(first["files"]), len(rest["files"])) == (7, 3, 4)
    one = first["files"][0]
    assert sharer.names(sha256=one["sha256"]) == [one["name"]]


def test_a_name_that_may_not_be_is_refused_with_what_would_be_right(sharer: Sharer) -> None:
    for name in ("", "/a.txt", "a//b.txt", "a/../b.txt", "a/", "x" * 1025, "a\u202etxt.pdf", "a\n.txt", "con.txt"):
        refused = sharer.put(name, b"x")
        assert code(refused) == (400, "validation_error"), name
        assert refused.json()["error"]["fields"]["name"]
        assert code(sharer.ask("POST", "/files/links", json={"name": name})) == (400, "validation_error"), name
    assert sharer.names() == []


def test_files_are_examined_as_attachments_are_also_when_they_are_renamed(sharer: Sharer) -> None:
    assert code(sharer.put("run.exe", b"MZ")) == (422, "file_refused")
    assert code(sharer.put("photo.png", b"%PDF-1.7\n%%EOF")) == (422, "file_refused")
    assert code(sharer.put("large.bin", bytes(MOST + 1))) == (413, "too_large")
    made = sharer.kept("plan.pdf", b"%PDF-1.7\n%%EOF")
    assert made["content_type"] == "application/pdf"
    for name in ("plan.png", "plan.exe"):
        assert code(sharer.ask("PATCH", f"/files/{made['id']}", json={"name": name})) == (422, "file_refused")
    sharer.kept("other.pdf", b"%PDF-1.7\nother")
    assert code(sharer.ask("PATCH", f"/files/{made['id']}", json={"name": "other.pdf"})) == (409, "conflict")
    late = sharer.ask("PATCH", f"/files/{made['id']}", json={"expires_at": "2020-01-01"})
    assert code(late) == (400, "validation_error")
    assert code(sharer.put("a.txt", b"a", metadata='{"deep": {}}')) == (400, "validation_error")
    assert code(sharer.put("a.txt", b"a", metadata="[")) == (400, "validation_error")
    assert sharer.names() == ["other.pdf", "plan.pdf"]


def test_a_download_may_be_a_part_or_unnecessary(sharer: Sharer) -> None:
    content = os.urandom(200_000)
    made = sharer.kept("data.bin", content)
    path = f"/files/{made['id']}/content"
    ranges = {"bytes=0-9": content[:10], "bytes=150000-": content[150_000:], "bytes=-5": content[-5:]}
    for wanted, part in ranges.items():
        found = followed(sharer.ask("GET", path, headers={"Range": wanted}), Range=wanted)
        assert (found.status_code, found.content) == (206, part)
    whole = sharer.ask("GET", path)
    if whole.status_code == 302:
        return  # the store's own server answers conditions
    assert (whole.headers["ETag"], whole.headers["Accept-Ranges"]) == (f'"{made["sha256"]}"', "bytes")
    assert sharer.ask("GET", path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert sharer.ask("GET", path, headers={"Range": "bytes=999999-"}).status_code == 416
    old = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert (sharer.ask("GET", path, headers=old).status_code, sharer.ask("HEAD", path).status_code) == (200, 200)


def test_a_link_gives_the_file_to_anybody_until_it_ends(sharer: Sharer) -> None:
    made = sharer.kept("shared.bin", b"for you")
    link = sharer.ask("POST", f"/files/{made['id']}/link", json={"seconds": 60}).json()
    assert followed(requests.get(link["url"], allow_redirects=False, timeout=PATIENCE)).content == b"for you"
    other = sharer.kept("other.bin", b"not for you")
    for before, after in ((made["id"], other["id"]), ("until=", "until=9"), ("signature=", "signature=0")):
        forged = requests.get(link["url"].replace(before, after), timeout=PATIENCE)
        assert code(forged) == (403, "forbidden")
    assert code(sharer.ask("POST", f"/files/{made['id']}/link", json={"seconds": 0})) == (400, "validation_error")
    sharer.ask("DELETE", f"/files/{made['id']}")
    assert code(requests.get(link["url"], timeout=PATIENCE)) == (404, "not_found")


def test_a_link_for_an_upload_takes_one_name_and_size_and_is_examined(sharer: Sharer) -> None:
    wanted = {"name": "inbox/from ann.txt", "max_size": 10, "expires_at": "2999-01-01T00:00:00Z"}
    link = sharer.ask("POST", "/files/links", json=wanted).json()
    assert (link["method"], link["max_size"]) == ("PUT", 10)
    url = link["url"]
    preflight = requests.options(url, headers={"Origin": "https://app.example.com"}, timeout=PATIENCE)
    assert preflight.headers["Access-Control-Allow-Methods"] == "PUT"
    assert code(requests.put(url, b"x" * 11, timeout=PATIENCE)) == (413, "too_large")
    chunks = requests.put(url, iter([b"x" * 6, b"x" * 6]), timeout=PATIENCE)
    assert code(chunks) == (413, "too_large")
    for before, after in (("ann", "bob"), ("size=10", "size=99"), ("expires=3", "expires=2"), ("live", "test")):
        assert before in url
        assert code(requests.put(url.replace(before, after), b"x", timeout=PATIENCE)) == (403, "forbidden")
    assert code(requests.put(f"{url}&replace=true", b"x", timeout=PATIENCE)) == (403, "forbidden")
    assert code(requests.put(url, b"%PDF-1.7\n", timeout=PATIENCE)) == (422, "file_refused")
    done = requests.put(url, b"Hello", headers={"Origin": "https://app.example.com"}, timeout=PATIENCE)
    assert (done.status_code, done.headers["Access-Control-Allow-Origin"]) == (201, "*")
    shown = sharer.ask("GET", "/files").json()["files"][0]
    assert (shown["name"], shown["expires_at"]) == (wanted["name"], "2999-01-01T00:00:00.000Z")
    assert code(requests.put(url, b"other", timeout=PATIENCE)) == (409, "conflict")
    again = sharer.ask("POST", "/files/links", json={"name": wanted["name"], "replace": True}).json()
    assert requests.put(again["url"], b"newer", timeout=PATIENCE).status_code == 200
    suspended = {"status": "suspended"}
    sharer.door.ask("PATCH", f"/tenants/{sharer.tenant}", sharer.door.admin, json=suspended)
    assert code(requests.put(again["url"], b"newest", timeout=PATIENCE)) == (403, "tenant_suspended")


def test_test_keys_have_files_of_their_own(sharer: Sharer) -> None:
    live = sharer.kept("same.txt", b"content")
    test = sharer.kept("same.txt", b"content", test=True)
    assert (live["id"] != test["id"], test["test"]) == (True, True)
    assert sharer.names(test=True) == ["same.txt"]
    assert sharer.names() == ["same.txt", "same.txt"]
    for method, end in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("PATCH", ""), ("POST", "/link")):
        body = {} if method in ("GET", "DELETE") else {"json": {}}
        assert code(sharer.ask(method, f"/files/{live['id']}{end}", test=True, **body)) == (404, "not_found")
    link = sharer.ask("POST", "/files/links", test=True, json={"name": "mine.txt"}).json()
    assert requests.put(link["url"], b"x", timeout=PATIENCE).json()["test"] is True
    assert sharer.ask("PATCH", f"/files/{test['id']}", test=True, json={"name": "t.txt"}).json()["name"] == "t.txt"
    assert sharer.ask("DELETE", f"/files/{test['id']}", test=True).status_code == 204
    assert followed(sharer.ask("GET", f"/files/{live['id']}/content")).content == b"content"


def test_a_content_is_kept_while_a_file_has_it_and_goes_with_the_last(sharer: Sharer) -> None:
    services, content = sharer.door.services, os.urandom(1000)
    form = {"file": ("plan.bin", content)}
    attachment = sharer.ask("POST", "/attachments", files=form).json()["attachments"][0]
    kept = sharer.kept("plan.bin", content)
    assert kept["sha256"] == attachment["sha256"]  # stored once
    assert sharer.ask("DELETE", f"/attachments/{attachment['id']}").status_code == 204

    def collected() -> bool:
        """Look at all contents now, and return whether this one is gone."""
        with services.db.write() as session:
            session.execute(update(Blob).values(kept_until=db_now(-1)))
        while expire_contents(services.db, services.blobs, 30):
            pass
        with services.db.read() as session:
            return session.scalar(select(Blob.sha256).where(Blob.sha256 == kept["sha256"])) is None

    assert not collected()
    assert followed(sharer.ask("GET", f"/files/{kept['id']}/content")).content == content
    soon = datetime.now(UTC) - timedelta(seconds=1)
    with services.db.write() as session:
        session.execute(update(NamedFile).where(NamedFile.sha256 == kept["sha256"]).values(expires_at=soon))
    assert code(sharer.ask("GET", f"/files/{kept['id']}")) == (404, "not_found")  # although it was not deleted yet
    again = sharer.kept("plan.bin", content)
    assert again["id"] != kept["id"]
    with services.db.write() as session:
        session.execute(update(NamedFile).where(NamedFile.sha256 == kept["sha256"]).values(expires_at=soon))
    while expire(services.db):
        pass
    assert collected()
