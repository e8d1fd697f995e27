"""Uploads and messages with files, by forms, through the front door."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.attachments.conftest import MOST
from tests.attachments.test_api import ask, download, fresh
from tests.tenants.conftest import Locked, code
from tests.waiting import PATIENCE

NAMES = ["invoice.pdf", 'Prüfung (Q1)\'s "final".pdf', "請求書.pdf", "🎉.gif", "a" * 200 + ".txt", "no ending"]
PART = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
END = b"\r\n--X--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=X"}
MESSAGE = [("to", "ann@example.com"), ("subject", "Hello"), ("text", "Here it is.")]


def upload(door: Locked, files: list[tuple[str, Any]], key: str | None = None, **options: Any) -> requests.Response:
    return ask(door, "POST", "/attachments", key, files=files, **options)


def send(
    door: Locked, files: list[tuple[str, Any]], fields: list[tuple[str, str]] | None = None, **options: Any
) -> requests.Response:
    # Without a file, requests would send no form.
    given = [(name, (None, value)) for name, value in (MESSAGE if fields is None else fields)]
    return ask(door, "POST", "/messages", files=[*given, *files], **options)


def parts(door: Locked, answer: requests.Response) -> list[tuple[str | None, str, bytes, str | None]]:
    """Return name, type, content and Content-ID of each part of a message that was accepted."""
    assert answer.status_code == 201, answer.text
    raw = ask(door, "GET", f"/messages/{answer.json()['id']}/raw").content
    leaves = [one for one in message_from_bytes(raw, policy=policy.default).walk() if not one.is_multipart()]
    return [
        (one.get_filename(), one.get_content_type(), one.get_payload(decode=True), one["Content-ID"]) for one in leaves
    ]


def counts(door: Locked) -> tuple[int, int]:
    """Return how many attachments and stored contents there are."""
    return (
        ask(door, "GET", "/attachments", params={"limit": 0}).json()["count"],
        sum(1 for _ in door.services.blobs.keys("")),
    )


def test_files_are_stored_under_their_names_and_come_back_byte_for_byte(door: Locked) -> None:
    contents = [fresh(300_000), b"", b"\r\n--X\r\n", os.urandom(70_000), b"\0", fresh(1000)]
    answer = upload(door, [("file", pair) for pair in zip(NAMES, contents, strict=True)])
    assert answer.status_code == 201, answer.text
    made = answer.json()["attachments"]
    assert [one["filename"] for one in made] == NAMES
    assert [one["sha256"] for one in made] == [hashlib.sha256(one).hexdigest() for one in contents]
    assert [one["size"] for one in made] == list(map(len, contents))
    assert {one["state"] for one in made} == {"stored"}
    assert [download(door, one["id"]).content for one in made] == contents
    assert ask(door, "GET", f"/attachments/{made[0]['id']}").json() == made[0]


def test_a_type_is_the_declared_one_else_that_of_the_ending(door: Locked) -> None:
    files = [("a.csv", b"1", "text/csv; charset=ISO-8859-1"), ("b.pdf", b"2", ""), ("c.bin", b"3", "")]
    made = upload(door, [("file", one) for one in files]).json()["attachments"]
    assert [one["content_type"] for one in made] == [
        "text/csv; charset=iso-8859-1",
        "application/pdf",
        "application/octet-stream",
    ]


def test_a_path_in_a_name_is_left_out(door: Locked) -> None:
    names = (b"/etc/passwd", b"C:\\\\Users\\\\ann\\\\plan.doc", b"../../x.txt")  # as curl writes them
    body = b"\r\n".join(PART.replace(b"a.txt", name) + b"1" for name in names) + END
    made = ask(door, "POST", "/attachments", data=body, headers=FORM).json()["attachments"]
    assert [one["filename"] for one in made] == ["passwd", "plan.doc", "x.txt"]


def test_an_upload_in_chunks_is_taken(door: Locked) -> None:
    content = fresh(400_000)
    form = PART + content + END
    pieces = (form[at : at + 7001] for at in range(0, len(form), 7001))
    answer = ask(door, "POST", "/attachments", data=pieces, headers=FORM)
    assert answer.json()["attachments"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_an_upload_that_is_repeated_with_its_key_is_stored_once(door: Locked) -> None:
    content, key = fresh(), {"Idempotency-Key": uuid4().hex}
    first = upload(door, [("file", ("a.txt", content))], headers=key)
    again = upload(door, [("file", ("a.txt", content))], headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    other = upload(door, [("file", ("b.txt", content))], headers=key)
    assert code(other) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (PART + b"x" * (MOST + 1) + END, 413, 'The file "a.txt" is larger than 2000000 bytes, the limit'),
        (PART + b"good\r\n" + PART + b"x" * (MOST + 1) + END, 413, 'The file "a.txt" is larger'),
        ((PART + b"1\r\n") * 11 + END[2:], 413, "More than 10 files in one request, the limit"),
        ((PART + b"\r\n") * 100_000 + END[2:], 413, "More than 10 files in one request"),
        (PART + b"good", 400, "The body ends before its last boundary, --X--"),
        (PART + b"good\r\n--X\r\nfoo: bar\r\n\r\n" + END, 400, "Each part needs a header such as"),
        (PART.replace(b"file", b"fiel", 1) + b"1" + END, 400, "No file can be sent as `fiel`"),
        (PART.replace(b'; filename="a.txt"', b"") + b"1" + END, 400, "`file`: Has no file name, and so is no file"),
        (PART.replace(b'"a.txt"', b'""') + b"1" + END, 400, "`file`: A file has no name"),
        (PART.replace(b"a.txt", b"a\x07b") + b"1" + END, 400, "`file`: The name"),
        (PART.replace(b"a.txt", b"a" * 256) + b"1" + END, 400, "`file`: The name"),
        (PART.replace(b"a.txt", b"a\xff") + b"1" + END, 400, "A part's headers are not UTF-8."),
        (b"--X--\r\n", 400, "`file` is required: with curl write -F 'file=@invoice.pdf'."),
        (b"", 400, "The body ends before its last boundary"),
    ],
)
def test_an_upload_that_is_not_valid_is_refused_whole_and_stores_nothing(
    door: Locked, body: bytes, status: int, says: str
) -> None:
    before = counts(door)
    answer = ask(door, "POST", "/attachments", data=body, headers=FORM)
    message = answer.json()["error"]["message"]
    assert (answer.status_code, message[: len(says)]) == (status, says)
    assert counts(door) == before
    assert ask(door, "GET", "/attachments", params={"limit": 1}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "multipart/mixed; boundary=X"}, 415),
        ({}, 415),
        ({"Content-Type": "multipart/form-data"}, 400),
        (FORM | {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_a_body_that_is_declared_as_something_else_is_refused(
    door: Locked, headers: dict[str, str], status: int
) -> None:
    assert ask(door, "POST", "/attachments", data=PART + b"1" + END, headers=headers).status_code == status


@contextmanager
def connected(door: Locked) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE) as line:
        yield line


def head(path: str, key: str, length: int, *more: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: multipart/form-data; boundary=X",
        f"Content-Length: {length}",
        f"Authorization: Bearer {key}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def heard(line: socket.socket) -> tuple[int, Any]:
    """Return status and error of the response that ends the connection."""
    received = b""
    while piece := line.recv(65_536):
        received += piece
    status_line, _, rest = received.partition(b"\r\n")
    return int(status_line.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize("path", ["/attachments", "/messages"])
@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_who_may_not_upload_is_refused_before_the_body(door: Locked, path: str, expect: tuple[str, ...]) -> None:
    reader = door.key(door.tenant(uuid4().hex), scopes=["messages:read"])["key"]
    for key, status, why in (("mbg_wrong", 401, "unauthorized"), (reader, 403, "forbidden")):
        with connected(door) as line:
            line.sendall(head(path, key, MOST, *expect))
            found, error = heard(line)
        assert (found, error["code"]) == (status, why)


@pytest.mark.parametrize(
    ("length", "more", "status"),
    [(10**9, (), 413), (1000, ("Content-Encoding: gzip",), 415), (1000, ("Idempotency-Key: ",), None)],
)
def test_what_the_head_shows_is_refused_before_the_body(
    door: Locked, length: int, more: tuple[str, ...], status: int | None
) -> None:
    with connected(door) as line:
        line.sendall(head("/attachments", door.admin, length, "Expect: 100-continue", *more))
        if status is None:  # only the view looks at it
            assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        else:
            assert heard(line)[0] == status


def test_a_request_that_was_counted_by_its_head_is_not_counted_again(door: Locked) -> None:
    key = door.key(door.tenant(uuid4().hex), max_requests_per_minute=3)["key"]
    left = [upload(door, [("file", ("a", b"1"))], key) for _ in range(4)]
    assert [(one.status_code, one.headers["RateLimit-Remaining"]) for one in left] == [
        (201, "2"),
        (201, "1"),
        (201, "0"),
        (429, "0"),
    ]


def test_a_test_key_uploads_test_data(door: Locked) -> None:
    tenant = door.tenant(uuid4().hex)
    live, test = door.key(tenant)["key"], door.key(tenant, kind="test")["key"]
    assert upload(door, [("file", ("a.txt", b"live"))], live).status_code == 201
    [made] = upload(door, [("file", ("b.txt", b"test"))], test).json()["attachments"]
    assert made["test"] is True
    assert [one["filename"] for one in ask(door, "GET", "/attachments", test).json()["attachments"]] == ["b.txt"]
    files = [*((name, (None, value)) for name, value in MESSAGE), ("attachment", ("c.txt", b"other"))]
    assert ask(door, "POST", "/messages", test, files=files).status_code == 201


def test_a_form_makes_the_message_that_json_would_make(door: Locked) -> None:
    fields = [
        ("to", "Ann <ann@example.com>"),
        ("to", "bob@example.com"),
        ("cc", "eve@example.com"),
        ("subject", "Grüße"),
        ("html", '<p><img src="cid:logo.png"></p>'),
        ("metadata", '{"order": 12, "paid": true}'),
        ("headers", '{"X-Order": "12"}'),
        ("priority", "7"),
        ("tags", "invoice"),
        ("tags", "paid"),
    ]
    plan, logo = fresh(), fresh(500)
    answer = send(door, [("attachment", (NAMES[1], plan)), ("inline", ("logo.png", logo, "image/png"))], fields)
    found = parts(door, answer)
    assert (NAMES[1], "application/pdf", plan, None) in found
    assert ("logo.png", "image/png", logo, "<logo.png>") in found
    shown = ask(door, "GET", f"/messages/{answer.json()['id']}").json()
    assert {name: shown[name] for name in ("to", "cc", "subject", "metadata", "priority", "tags")} == {
        "to": ["ann@example.com", "bob@example.com"],
        "cc": ["eve@example.com"],
        "subject": "Grüße",
        "metadata": {"order": 12, "paid": True},
        "priority": 7,
        "tags": ["invoice", "paid"],
    }
    assert [one["filename"] for one in shown["attachments"]] == [NAMES[1], "logo.png"]


def test_a_form_may_have_the_whole_message_as_json_and_name_files_that_were_uploaded(door: Locked) -> None:
    content, more = fresh(), fresh()
    [made] = upload(door, [("file", ("first.txt", content))]).json()["attachments"]
    message = dict(MESSAGE) | {"attachments": [{"id": made["id"]}]}
    answer = send(door, [("attachment", ("second.txt", more))], [("message", json.dumps(message))])
    assert [(name, octets) for name, _, octets, _ in parts(door, answer)[1:]] == [
        ("first.txt", content),
        ("second.txt", more),
    ]


def test_a_form_without_files_is_a_message_too(door: Locked) -> None:
    assert [octets for _, _, octets, _ in parts(door, send(door, []))] == [b"Here it is.\r\n"]


def test_an_image_has_the_content_id_that_its_part_gives(door: Locked) -> None:
    image = ("logo 1.png", b"PNG", "image/png", {"Content-ID": "<logo@shop>"})
    assert parts(door, send(door, [("inline", image)]))[1][3] == "<logo@shop>"


def test_a_message_that_is_repeated_with_its_key_is_sent_once_whatever_its_boundary(door: Locked) -> None:
    content, key = fresh(), {"Idempotency-Key": uuid4().hex}
    first, again = (send(door, [("attachment", ("a.txt", content))], headers=key) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert code(send(door, [("attachment", ("a.txt", fresh()))], headers=key)) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("fields", "files", "field", "says"),
    [
        ([("to", "ann")], [], "to", ""),
        ([("subject", "a"), ("subject", "b")], [], "subject", "`subject` is given 2 times; give it once."),
        ([("priority", "high")], [], "priority", 'Must be an integer from 0 to 9; "high" is a string.'),
        ([("metadata", '{"a":')], [], "metadata", '"{\\"a\\":": It is not valid JSON at line 1, column 6'),
        ([("metadata", "a")], [], "metadata", "Must be an object"),
        ([("text", "a\0b")], [], "text", "Has a NUL character"),
        ([("sbject", "a")], [], "sbject", "Unknown field `sbject`; did you mean `subject`?"),
        ([], [("file", ("a", b"1"))], "file", "No file can be sent as `file`; files are sent as `attachment` or"),
        ([], [("inline", ("a b.png", b"1"))], "inline", "content_id of 'a b.png': Takes letters"),
        ([], [("inline", ("a", b"1")), ("inline", ("a", b"2"))], "attachments", "The same content_id twice"),
        ([], [("attachment", ("a" * 300, b"1"))], "attachment", "The name"),
        ([], [("attachment", ("a", b"1", "nonsense"))], None, "`attachment` has a Content-Type that is none"),
        ([("message", "{}")], [], None, "`message` has the whole message as JSON, so nothing but files may be"),
    ],
)
def test_a_form_with_a_fault_is_400_and_stores_no_file(
    door: Locked, fields: list[tuple[str, str]], files: list[tuple[str, Any]], field: str | None, says: str
) -> None:
    before = counts(door)
    given = {name for name, _ in fields}
    all_fields = [*((name, value) for name, value in MESSAGE if name not in given), *fields]
    answer = send(door, [("attachment", ("good.txt", fresh())), *files], all_fields)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    found = error["message"] if field is None else error["fields"][field][0]
    assert re.match(re.escape(says), found), found
    assert counts(door) == before


def test_files_that_are_too_large_for_a_mail_are_413_and_not_stored(door: Locked) -> None:
    before = counts(door)
    more = [{"filename": f"{number}.txt", "content": "A" * 2_600_000} for number in range(7)]
    files = [("attachment", (f"{number}.bin", fresh(MOST))) for number in range(10)]
    answer = send(door, files, [("message", json.dumps(dict(MESSAGE) | {"attachments": more}))])
    assert code(answer) == (413, "too_large")
    assert "(MAX_MESSAGE_SIZE)" in answer.json()["error"]["message"]
    assert counts(door) == before
