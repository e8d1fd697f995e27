"""Attachments through the front door, with a folder and with S3."""

import hashlib
import os
import re
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from sqlalchemy import select

from mailbbgun.attachments.models import BLOBS, Blob
from tests.attachments.conftest import MOST
from tests.tenants.conftest import Locked, code
from tests.waiting import PATIENCE

NUMBERS = count()
MISSING = "00000000-0000-7000-8000-00000000000f"


def fresh(size: int = 100_000) -> bytes:
    """Return a content that no test had before."""
    return os.urandom(size - 16) + next(NUMBERS).to_bytes(16, "big")


def ask(door: Locked, method: str, path: str, key: str | None = None, **options: Any) -> requests.Response:
    return door.ask(method, path, key or door.admin, allow_redirects=False, **options)


def presigned(
    door: Locked, content: bytes, key: str | None = None, kind: str = "sha256", **values: Any
) -> dict[str, Any]:
    digest = hashlib.new(kind, content).hexdigest()
    body = {kind: digest, "size": len(content), "filename": "plan.pdf"} | values
    answer = ask(door, "POST", "/attachments/presign", key, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(made: dict[str, Any], content: Any, **headers: str) -> requests.Response:
    upload = made["upload"]
    return requests.request(
        upload["method"], upload["url"], data=content, headers=upload["headers"] | headers, timeout=PATIENCE
    )


def uploaded(door: Locked, content: bytes, key: str | None = None, **values: Any) -> dict[str, Any]:
    made = presigned(door, content, key, **values)
    answer = put(made, content)
    assert answer.ok, answer.text
    return made


def download(door: Locked, attachment: str, key: str | None = None) -> requests.Response:
    """Return the file, wherever the API says it is."""
    answer = ask(door, "GET", f"/attachments/{attachment}/content", key)
    if answer.status_code == 302:
        return requests.get(answer.headers["Location"], timeout=PATIENCE)  # without the key
    return answer


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("size", [16, 500_000], ids=["small", "large"])
def test_a_file_that_is_uploaded_to_a_signed_url_is_downloaded_as_it_was(door: Locked, kind: str, size: int) -> None:
    content = fresh(size)
    made = presigned(door, content, kind=kind)
    assert (made["state"], made["sha256"], made["content_type"]) == ("awaited", None, "application/pdf")
    assert ask(door, "GET", f"/attachments/{made['id']}/content").status_code == 409
    assert put(made, content).ok
    found = download(door, made["id"])
    assert found.content == content
    assert found.headers["Content-Disposition"] == "attachment; filename=\"plan.pdf\"; filename*=UTF-8''plan.pdf"
    assert found.headers["Content-Type"] == "application/pdf"
    shown = ask(door, "GET", f"/attachments/{made['id']}").json()
    assert (shown["state"], shown["size"]) == ("stored", size)
    assert shown["sha256"] == hashlib.sha256(content).hexdigest()
    assert shown["md5"] == hashlib.md5(content).hexdigest()


def test_a_file_that_is_there_need_not_be_uploaded_again(door: Locked) -> None:
    content = fresh()
    download(door, uploaded(door, content)["id"])
    for kind in ("sha256", "md5"):
        again = presigned(door, content, kind=kind, filename="other.pdf")
        assert (again["upload"], again["state"]) == (None, "stored")
        assert download(door, again["id"]).content == content
    wrong = {"md5": hashlib.md5(content).hexdigest(), "size": 3, "filename": "x"}
    refused = ask(door, "POST", "/attachments/presign", json=wrong)
    assert refused.json()["error"]["fields"] == {"size": [f"That file has {len(content)} bytes."]}


def test_a_request_for_a_url_that_is_repeated_gets_the_same_attachment_and_a_url_that_works(door: Locked) -> None:
    content = fresh()
    body = {"md5": hashlib.md5(content).hexdigest(), "size": len(content), "filename": "once.pdf"}
    headers = {"Idempotency-Key": f"upload {next(NUMBERS)}"}
    first, again = (ask(door, "POST", "/attachments/presign", json=body, headers=headers) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert put(again.json(), content).ok
    assert download(door, first.json()["id"]).content == content
    late = ask(door, "POST", "/attachments/presign", json=body, headers=headers)
    assert (late.json()["state"], late.json()["upload"]) == ("stored", None)
    other = ask(door, "POST", "/attachments/presign", json=body | {"filename": "other.pdf"}, headers=headers)
    assert code(other) == (422, "idempotency_mismatch")


def test_another_file_than_was_named_is_refused_and_the_right_one_may_follow(door: Locked) -> None:
    content, other = fresh(), fresh()
    made = uploaded(door, content)
    assert put(made, other).ok  # as large as the right one
    refused = ask(door, "GET", f"/attachments/{made['id']}/content")
    assert code(refused) == (409, "conflict")
    is_digest, named = (hashlib.sha256(one).hexdigest() for one in (other, content))
    sentence = f"The uploaded file has the SHA-256 {is_digest} and not {named}; upload it again."
    assert refused.json()["error"]["message"] == sentence
    assert "has been uploaded" in ask(door, "GET", f"/attachments/{made['id']}/content").json()["error"]["message"]
    assert put(made, content).ok
    assert download(door, made["id"]).content == content


def test_a_file_of_another_size_than_was_named_is_refused(door: Locked) -> None:
    content = fresh()
    made = presigned(door, content, size=len(content) + 1)
    answer = put(made, content)
    if answer.ok:  # S3 takes any size; it is looked at before the file is used
        answer = ask(door, "GET", f"/attachments/{made['id']}/content")
        assert answer.status_code == 409
    else:
        assert code(answer) == (400, "validation_error")
    assert f"{len(content)} bytes" in answer.text
    assert ask(door, "GET", f"/attachments/{made['id']}").json()["state"] == "awaited"


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"sha256": "x"}, "sha256", "SHA-256"),
        ({"md5": "a" * 31}, "md5", "32 digits"),
        ({}, "sha256", "Give the file's SHA-256 as sha256, or its MD5 as md5"),
        ({"sha256": "a" * 64, "md5": "a" * 32}, "sha256", "and not both"),
        ({"md5": "a" * 32, "size": -1}, "size", "at least 0"),
        ({"md5": "a" * 32, "size": MOST + 1}, "size", "MAX_FILE_SIZE"),
        ({"md5": "a" * 32, "filename": ""}, "filename", ""),
        ({"md5": "a" * 32, "filename": "a" * 256}, "filename", "255"),
        ({"md5": "a" * 32, "filename": "a\nb"}, "filename", "control character"),
        ({"md5": "a" * 32, "content_type": "pdf"}, "content_type", "application/pdf"),
        ({"md5": "a" * 32, "content_type": "a/b\r\nX: y"}, "content_type", "application/pdf"),
        ({"md5": "a" * 32, "more": 1}, "more", ""),
    ],
)
def test_what_cannot_be_uploaded_is_said(door: Locked, body: dict[str, Any], field: str, sentence: str) -> None:
    answer = ask(door, "POST", "/attachments/presign", json={"size": 3, "filename": "x.pdf"} | body)
    assert code(answer) == (400, "validation_error")
    assert sentence in " ".join(answer.json()["error"]["fields"][field]), answer.text


def test_a_url_that_was_changed_or_has_ended_takes_nothing(door: Locked) -> None:
    content = fresh()
    made, other = presigned(door, content), presigned(door, fresh())
    url = made["upload"]["url"]
    path = urlsplit(other["upload"]["url"]).path
    changed = [
        url.replace(urlsplit(url).path, path),
        re.sub(r"(until=|X-Amz-Expires=)([0-9]+)", lambda found: f"{found[1]}{int(found[2]) + 1}", url),
        re.sub(r"([Ss]ignature=)(.)", lambda found: f"{found[1]}{'0' if found[2] != '0' else '1'}", url),
        re.sub(r"[?&][^&]*[Ss]ignature=[^&]*", "", url),
    ]
    for one in changed:
        assert one != url
        answer = requests.put(one, data=content, headers=made["upload"]["headers"], timeout=PATIENCE)
        assert answer.status_code in (400, 403), one
    assert ask(door, "GET", f"/attachments/{made['id']}/content").status_code == 409


def test_attachments_are_listed_newest_first_by_filters_and_in_pages(door: Locked) -> None:
    key = door.key(door.tenant(f"lists {next(NUMBERS)}"))["key"]
    contents = [fresh() for _ in range(3)]
    made = [uploaded(door, content, key, filename=f"{number}.txt") for number, content in enumerate(contents)]
    for one in made:
        download(door, one["id"], key)
    ids = [one["id"] for one in reversed(made)]

    def listed(query: str = "") -> list[str]:
        answer = ask(door, "GET", f"/attachments{query}", key)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["attachments"]]

    assert listed() == ids
    assert listed("?filename=1.txt") == [made[1]["id"]]
    assert listed(f"?sha256={hashlib.sha256(contents[2]).hexdigest()}") == [made[2]["id"]]
    assert listed(f"?md5={hashlib.md5(contents[0]).hexdigest().upper()}") == [made[0]["id"]]
    assert listed("?test=true") == []
    assert listed("?since=2020-01-01&until=2021-01-01") == []
    page = ask(door, "GET", "/attachments?limit=2", key)
    assert ([one["id"] for one in page.json()["attachments"]], page.json()["count"]) == (ids[:2], 3)
    assert 'rel="next"' in page.headers["Link"]
    assert listed(f"?limit=2&after={ids[1]}") == ids[2:]
    assert listed("?offset=1&limit=1") == ids[1:2]
    assert ask(door, "GET", "/attachments?limit=0", key).json() == {"attachments": [], "count": 3}


def test_a_deleted_attachment_is_gone_and_another_name_for_the_content_stays(door: Locked) -> None:
    content = fresh()
    first = uploaded(door, content)
    download(door, first["id"])
    second = presigned(door, content, filename="second.pdf")
    assert ask(door, "DELETE", f"/attachments/{first['id']}").status_code == 204
    for method, path in (("DELETE", ""), ("GET", ""), ("GET", "/content")):
        assert code(ask(door, method, f"/attachments/{first['id']}{path}")) == (404, "not_found")
    assert download(door, second["id"]).content == content


def test_a_test_key_sees_and_names_only_what_test_keys_uploaded(door: Locked) -> None:
    tenant = door.tenant(f"two worlds {next(NUMBERS)}")
    live, test = door.key(tenant)["key"], door.key(tenant, kind="test")["key"]
    shared = fresh()
    made = uploaded(door, shared, live)
    download(door, made["id"], live)
    for path in ("", "/content"):
        assert code(ask(door, "GET", f"/attachments/{made['id']}{path}", test)) == (404, "not_found")
    assert ask(door, "GET", "/attachments", test).json() == {"attachments": [], "count": 0}
    assert code(ask(door, "DELETE", f"/attachments/{made['id']}", test)) == (404, "not_found")
    theirs = presigned(door, shared, test)  # it is not told that the tenant has the content
    assert theirs["upload"] is not None
    assert put(theirs, shared).ok
    assert download(door, theirs["id"], test).content == shared
    assert presigned(door, shared, test)["upload"] is None
    assert ask(door, "GET", "/attachments?limit=0", test).json()["count"] == 2
    assert ask(door, "GET", "/attachments?limit=0", live).json()["count"] == 3
    with door.services.db.read() as session:
        assert len(session.scalars(select(Blob).where(Blob.sha256 == hashlib.sha256(shared).hexdigest())).all()) == 1


def test_a_key_without_the_scope_is_refused(door: Locked) -> None:
    tenant = door.tenant(f"scopes {next(NUMBERS)}")
    reads = door.key(tenant, scopes=["messages:read"])["key"]
    writes = door.key(tenant, scopes=["messages:write"])["key"]
    body = {"md5": "a" * 32, "size": 3, "filename": "x"}
    assert code(ask(door, "POST", "/attachments/presign", reads, json=body)) == (403, "forbidden")
    assert code(ask(door, "DELETE", f"/attachments/{MISSING}", reads)) == (403, "forbidden")
    assert code(ask(door, "GET", "/attachments", writes)) == (403, "forbidden")


@pytest.mark.parametrize(
    ("filename", "plain", "coded"),
    [
        ('Prüfung (Q1)\'s "final".pdf', "Prufung (Q1)'s _final_.pdf", "Pr%C3%BCfung%20%28Q1%29%27s%20%22final%22.pdf"),
        ("請求書.pdf", ".pdf", "%E8%AB%8B%E6%B1%82%E6%9B%B8.pdf"),
        ("🎉", "file", "%F0%9F%8E%89"),
        ("100%.txt", "100_.txt", "100%25.txt"),
        ("a;b=c,d.txt", "a;b=c,d.txt", "a%3Bb%3Dc%2Cd.txt"),
        ("../../etc/passwd", "passwd", "passwd"),
        ("invoice\u202efdp.exe", "invoicefdp.exe", "invoicefdp.exe"),
        ("a" * 200, "a" * 200, "a" * 200),
    ],
)
def test_a_download_has_the_files_name(door: Locked, filename: str, plain: str, coded: str) -> None:
    content = fresh()
    found = download(door, uploaded(door, content, filename=filename)["id"])
    assert found.headers["Content-Disposition"] == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}"
    assert found.content == content


def test_a_page_is_downloaded_and_never_shown(door: Locked) -> None:
    content = b"<script>alert(1)</script>" + fresh()
    made = uploaded(door, content, filename="page.html", content_type="text/html")
    answer = ask(door, "GET", f"/attachments/{made['id']}/content")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert download(door, made["id"]).headers["Content-Disposition"].startswith("attachment; ")


def test_a_file_in_which_the_scanner_found_something_is_not_given_out(door: Locked) -> None:
    content = fresh()
    made = uploaded(door, content)
    assert download(door, made["id"]).content == content
    with door.services.db.write() as session:
        its = BLOBS.c.sha256 == hashlib.sha256(content).hexdigest()
        session.execute(BLOBS.update().where(its).values(scan="infected", scan_result="Some-Virus"))
    refused = download(door, made["id"])
    assert code(refused) == (422, "virus_found")
    assert "Some-Virus" in refused.text


WITH_FOLDER = pytest.mark.parametrize("door", ["folder"], indirect=True)
WITH_S3 = pytest.mark.parametrize("door", ["s3"], indirect=True)


@WITH_FOLDER
def test_a_page_of_another_site_may_use_a_signed_url_and_nothing_else(door: Locked) -> None:
    content = fresh()
    made = presigned(door, content)
    page = {"Origin": "https://shop.example.com", "Sec-Fetch-Site": "cross-site"}
    asked = requests.options(made["upload"]["url"], headers=page | {"Access-Control-Request-Method": "PUT"})
    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert asked.headers["Access-Control-Allow-Methods"] == "PUT"
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type"
    stored = put(made, content, **page)
    assert (stored.status_code, stored.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert code(door.call("DELETE", f"/attachments/{made['id']}", headers=page)) in (
        (403, "cross_site"),
        (401, "unauthorized"),
    )
    assert "Access-Control-Allow-Origin" not in ask(door, "GET", "/attachments").headers


@WITH_FOLDER
def test_a_body_in_chunks_must_have_the_size_that_the_url_says(door: Locked) -> None:
    content = fresh()
    made = presigned(door, content)
    assert put(made, iter([content[:-1]])).status_code == 400
    assert put(made, iter([content, b"x"])).status_code == 413
    assert ask(door, "GET", f"/attachments/{made['id']}/content").status_code == 409
    assert put(made, iter([content[:5000], content[5000:]])).ok
    assert download(door, made["id"]).content == content
