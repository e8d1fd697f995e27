"""Messages that are stored as what they are made of, from the door to the sink."""

import hashlib
import os
import random
import re
from base64 import b64encode
from contextlib import suppress
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from mailbbgun.messages.status import STATUSES
from tests.conftest import MOSTLY_EMBEDDED
from tests.flow.service import Service, until
from tests.waiting import PATIENCE

ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.com\r\nEND:VEVENT\r\n"
    "END:VCALENDAR\r\n"
)


@pytest.fixture
def shared(running: Service) -> Service:
    """The service that the tests of this file share, without pending mail."""
    running.renew()
    return running


def raw(service: Service, identifier: str) -> bytes:
    """Return the MIME that the API shows."""
    answer = service.http.get(f"{service.url}/messages/{identifier}/raw", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_an_invitation_arrives_as_an_alternative_and_as_a_file_and_raw_shows_the_bytes_of_every_try(shared):
    sent = shared.post(
        to="later-1-ann@example.test",
        cc="Bén <ben@example.test>",
        text="Come!",
        html="<p>Come!</p>",
        amp_html="<html ⚡4email></html>",
        calendar={"ics": ICS},
        headers={"X-Order": "1"},
    )
    shared.ended(sent["id"], "DELIVERED")
    shown = raw(shared, sent["id"])
    assert {one["sha"] for one in shared.taken()} == {hashlib.sha256(shown).hexdigest()}
    assert shared.copies() == {"later-1-ann@example.test": 1, "ben@example.test": 1}
    assert shared.message(sent["id"])["size"] == len(shown)
    found = message_from_bytes(shown, policy=policy.default)
    assert (found["Cc"], found["X-Order"]) == ("Bén <ben@example.test>", "1")
    assert [part.get_content_type() for part in found.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/x-amp-html",
        "text/html",
        "text/calendar",
        "application/ics",
    ]
    calendar, invitation = [*found.walk()][-2:]
    assert (calendar["Content-Type"].params["method"], calendar.get_content().replace("\r\n", "\n")) == (
        "REQUEST",
        ICS.replace("\r\n", "\n"),
    )
    assert (invitation.get_filename(), invitation.get_content()) == ("invite.ics", ICS.encode())


PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256)) * 1300
NAME = 'Prüfung (Q1)\'s "final".csv'


def with_content(octets: bytes, filename: str, **more: str) -> dict[str, str]:
    """Return a file as a client gives it with its bytes."""
    return {"content": b64encode(octets).decode(), "filename": filename, **more}


def files(mime: bytes) -> dict[str | None, tuple[str, bytes]]:
    """Return the files of a message by their names: type and bytes."""
    return {
        part.get_filename(): (part.get_content_type(), part.get_payload(decode=True))
        for part in message_from_bytes(mime, policy=policy.default).walk()
        if part.get_filename()
    }


def test_files_arrive_under_their_names_byte_for_byte_at_every_try(shared):
    csv = "Größe;1\n\nEnde ohne Zeilenende".encode("latin-1")
    sent = shared.post(
        to=["later-1-ann@example.test", "ben@example.test"],
        html='<img src="cid:logo@shop">',
        attachments=[
            with_content(PNG, "logo.png", content_id="logo@shop"),
            with_content(csv, NAME, content_type="text/csv; charset=iso-8859-1"),
            with_content(b"", "leer.txt"),
            with_content(b"Subject: x\r\n\r\nx\n", "x.eml"),
        ],
    )
    shared.ended(sent["id"], "DELIVERED")
    shown = raw(shared, sent["id"])
    assert {one["sha"] for one in shared.taken()} == {hashlib.sha256(shown).hexdigest()}
    assert shared.copies() == {"later-1-ann@example.test": 1, "ben@example.test": 1}
    assert files(shown) == {
        "logo.png": ("image/png", PNG),
        NAME: ("text/csv", csv),
        "leer.txt": ("text/plain", b""),
        "x.eml": ("application/octet-stream", b"Subject: x\r\n\r\nx\n"),
    }
    told = shared.message(sent["id"])
    assert told["size"] == len(shown)
    assert [(one["filename"], one["content_type"], one["size"], one["content_id"]) for one in told["attachments"]] == [
        ("logo.png", "image/png", len(PNG), "logo@shop"),
        (NAME, "text/csv; charset=iso-8859-1", len(csv), None),
        ("leer.txt", "text/plain", 0, None),
        ("x.eml", "message/rfc822", 16, None),
    ]
    # Now that the tenant has it, a digest names it.
    again = shared.post(
        to="cis@example.test", attachments=[{"sha256": told["attachments"][0]["sha256"].upper(), "filename": "l.png"}]
    )
    shared.ended(again["id"], "DELIVERED")
    assert files(raw(shared, again["id"])) == {"l.png": ("image/png", PNG)}


def stored(service: Service) -> list[Path]:
    """Return the files of the store."""
    return [path for path in (service.var / "blobs").rglob("*") if path.is_file()]


def test_while_the_store_is_away_nothing_is_accepted_and_accepted_mail_waits(shared):
    folder = shared.var / "blobs"
    before = shared.post(to="ann@example.test", text="warm up", attachments=[with_content(b"first", "a.txt")])
    shared.ended(before["id"], "DELIVERED")
    named = {"sha256": hashlib.sha256(b"first").hexdigest(), "filename": "a.txt"}
    count = sum(shared.count(status) for status in STATUSES)
    folder.rename(aside := shared.var / "aside")
    folder.write_bytes(b"no folder")
    try:
        answer = shared.http.post(
            f"{shared.url}/messages",
            json={
                "to": "ann@example.test",
                "subject": "s",
                "text": "t",
                "attachments": [with_content(b"new", "b.txt")],
            },
            timeout=PATIENCE,
        )
        assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True), answer.text
        assert sum(shared.count(status) for status in STATUSES) == count
        sent = shared.post(to="ben@example.test", attachments=[named])
        until(lambda: "waiting" in shared.kinds(sent["id"]), what="a try without the store")
        assert shared.http.get(f"{shared.url}/messages/{sent['id']}/raw", timeout=PATIENCE).status_code == 503
    finally:
        folder.unlink()
        aside.rename(folder)
    shared.ended(sent["id"], "DELIVERED")
    assert shared.copies()["ben@example.test"] == 1
    assert files(raw(shared, sent["id"]))["a.txt"] == ("text/plain", b"first")


def test_a_damaged_file_is_never_sent_and_its_message_ends_with_a_reason_of_its_own(shared):
    known = set(stored(shared))
    sent = shared.post(to=["later-9-ann@example.test"], attachments=[with_content(b"precious" * 1000, "a.bin")])
    (path,) = set(stored(shared)) - known
    path.chmod(0o600)
    path.write_bytes(b"precious" * 999 + b"precioux")
    failed = shared.ended(sent["id"], "ERROR")
    assert failed["reason"] == "attachment_damaged"
    assert "damaged" in failed["deliveries"][0]["last_reply"]
    assert shared.copies() == {}
    retried = shared.http.post(f"{shared.url}/messages/{sent['id']}/retry", timeout=PATIENCE)
    assert retried.status_code == 200, retried.text
    path.write_bytes(b"precious" * 1000)
    until(lambda: shared.kinds(sent["id"]).count("deferred") >= 4, what="a try with the file as it was")


@pytest.mark.parametrize(
    ("given", "field", "why"),
    [
        ({"filename": "a.txt"}, "attachments.0", "exactly one"),
        ({"Name": "a.txt", "Content": "eA=="}, "attachments.0.Name", "did you mean `filename`?"),
        ({"Name": "a.txt", "Content": "eA=="}, "attachments.0.Content", "did you mean `content`?"),
        ({"filename": "a.txt", "content": "eA==", "zip": "no"}, "attachments.0.zip", "those are id, sha256"),
        ({"id": "x"}, "attachments.0.id", "UUID"),
        ({"id": "01a22483-d3dd-74d9-ac09-5d5c613cad6c"}, "attachments.0.id", "no attachment with this id"),
        ({"sha256": "00" * 32, "filename": "a.txt"}, "attachments.0.sha256", "uploaded"),
        ({"md5": "0" * 31, "filename": "a.txt"}, "attachments.0.md5", "32 hexadecimal digits"),
        ({"sha256": "00" * 32}, "attachments.0.filename", "needed"),
        ({"content": "YQ", "filename": "a.txt"}, "attachments.0.content", "base64"),
        ({"content": "Y*==", "filename": "a.txt"}, "attachments.0.content", "base64"),
        ({"content": "YQ==", "filename": "../a.txt"}, "attachments.0.filename", "folders"),
        ({"content": "YQ==", "filename": "a\r\nBcc: x"}, "attachments.0.filename", "one line"),
        ({"content": "YQ==", "filename": "a", "content_type": "text"}, "attachments.0.content_type", "content type"),
        ({"content": "YQ==", "filename": "a", "content_id": "a>b"}, "attachments.0.content_id", "letters"),
        ({"content": "YQ==", "filename": "a", "name": "b"}, "attachments.0.name", "Not a field"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_by_its_place_and_field(shared, given, field, why):
    answer = shared.http.post(
        f"{shared.url}/messages",
        json={"to": "ann@example.test", "subject": "s", "text": "t", "attachments": [given]},
        timeout=PATIENCE,
    )
    assert answer.status_code == 400, answer.text
    assert why in answer.json()["error"]["fields"][field][0]


def test_what_would_be_too_large_when_it_is_encoded_is_refused(shared):
    digest = hashlib.sha256(PNG).hexdigest()
    shared.post(to="ann@example.test", attachments=[with_content(PNG, "a.png")])
    answer = shared.http.post(
        f"{shared.url}/messages",
        json={
            "to": "ann@example.test",
            "subject": "s",
            "text": "t",
            "attachments": [{"sha256": digest, "filename": f"{number}.png"} for number in range(100)],
        },
        timeout=PATIENCE,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), answer.text
    assert "MAX_MESSAGE_SIZE" in answer.text


def memory(pid: int) -> int:
    """Return the most memory that a process group has taken so far, in bytes, each process for itself."""
    peaks = 0
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # the process has just ended
            if os.getpgid(int(path.parent.name)) == pid:
                peaks += int(re.search(r"VmHWM:\s+(\d+) kB", path.read_text())[1]) * 1024
    return peaks


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_large_files_are_streamed_to_many_servers_at_once_and_survive_the_worker(backend, pytestconfig):
    every = pytestconfig.getoption("all")
    count, megabytes = (20, 25) if every else (8, 8)
    octets = random.Random(7).randbytes(megabytes * 1_000_000)
    with Service(backend, LEASE_SECONDS=4, SWEEP_SECONDS=1, MAX_BODY_SIZE=50_000_000) as service:
        first = service.post(to="ann@example.test", attachments=[with_content(octets, "a.bin")])
        named = [{"sha256": hashlib.sha256(octets).hexdigest(), "filename": NAME}]
        worker = service.start_worker(fault="dot.write:1:kill")
        until(lambda: worker.poll() is not None, what="the worker's death in the middle of a message")
        assert service.copies() == {}
        assert not any(service.var.glob("spool/*"))
        service.processes.pop("worker")
        worker = service.start_worker()
        service.ended(first["id"], "DELIVERED")
        before = memory(worker.pid)
        sent = [service.post(to=f"ben{number}@example.test", attachments=named) for number in range(count)]
        for one in sent:
            service.ended(one["id"], "DELIVERED")
        assert set(service.copies().values()) == {1}
        assert len(service.copies()) == count + 1
        grown = memory(worker.pid) - before
        print(f"{count} messages of {megabytes} MB at once: {grown / 1e6:.0f} MB more memory")
        assert grown < (150_000_000 if every else count * megabytes * 1_000_000 / 3)
        service.stop("api")
        service.start_api()
        raw(service, service.post(to="cis@example.test")["id"])  # so that all code is loaded
        before = memory(service.processes["api"].pid)
        shown = raw(service, sent[0]["id"])
        grown = memory(service.processes["api"].pid) - before
        print(f"/raw of {len(shown) / 1e6:.0f} MB: {grown / 1e6:.0f} MB more memory")
        assert grown < 0.8 * len(shown)
        assert [one["sha"] for one in service.taken() if one["to"] == ["ben0@example.test"]] == [
            hashlib.sha256(shown).hexdigest()
        ]
        assert files(shown)[NAME][1] == octets


def come_back(service: Service, identifier: str) -> list[set[str]]:
    """Return, for each try of a message that failed, when its recipients are due again."""
    due: dict[int, list[str]] = {}
    for event in service.get(f"/messages/{identifier}/events?limit=1000")["events"]:
        if event["kind"] == "deferred" and "retry_at" in event["data"]:
            due.setdefault(event["data"]["claim"], []).append(event["data"]["retry_at"])
    assert {len(found) for found in due.values()} == {5}
    return [set(found) for found in due.values()]


def test_recipients_of_a_message_that_cannot_be_composed_come_back_together(shared):
    known = set(stored(shared))
    octets = b"together" * 99
    first = shared.post(to="ann@example.test", attachments=[with_content(octets, "a.bin")])
    shared.ended(first["id"], "DELIVERED")
    (path,) = set(stored(shared)) - known
    path.chmod(0o600)
    path.write_bytes(b"no")
    named = {"sha256": hashlib.sha256(octets).hexdigest(), "filename": "a.bin"}
    sent = shared.post(to=[f"ann{number}@example.test" for number in range(5)], attachments=[named])
    until(lambda: shared.kinds(sent["id"]).count("deferred") >= 10, what="two tries with a damaged file")
    path.write_bytes(octets)

    def delivered() -> bool:
        status = shared.message(sent["id"])["status"]
        if status == "ERROR":  # this test was slow: all tries came before the file was whole
            shared.http.post(f"{shared.url}/messages/{sent['id']}/retry", timeout=PATIENCE).raise_for_status()
        return status == "DELIVERED"

    until(delivered, what="the mail with its file")
    assert [len(found) for found in come_back(shared, sent["id"])[:2]] == [1, 1]
    assert [len(one["to"]) for one in shared.taken()] == [1, 5]


def test_recipients_that_a_server_defers_together_come_back_together(shared):
    sent = shared.post(to=[f"later-3-ben{number}@example.test" for number in range(5)])
    shared.ended(sent["id"], "DELIVERED")
    assert [len(found) for found in come_back(shared, sent["id"])] == [1, 1, 1]
    assert [len(one["to"]) for one in shared.taken()] == [5]


def test_a_message_whose_body_is_gone_is_still_shown_but_neither_downloaded_nor_sent_again(shared):
    sent = shared.post(to="never-ann@example.test", subject="gone", attachments=[with_content(b"x", "x.txt")])
    shared.ended(sent["id"], "ERROR")
    shared.sql("UPDATE messages SET raw = NULL, content_id = NULL, personal = NULL WHERE subject = 'gone'")
    assert shared.message(sent["id"])["attachments"] == []
    answer = shared.http.get(f"{shared.url}/messages/{sent['id']}/raw", timeout=PATIENCE)
    assert (answer.status_code, "RETENTION_DAYS" in answer.text) == (404, True)
    answer = shared.http.post(f"{shared.url}/messages/{sent['id']}/retry", timeout=PATIENCE)
    assert (answer.status_code, "RETENTION_DAYS" in answer.text) == (409, True)
