"""Files that may not be sent are refused at the door, and those that wait for the scanner leave once it is back."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest

from mailbbgun.domains.models import POLICIES
from mailbbgun.safety.names import safe_name
from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.safety.samples import PDF, PROGRAM, zipped
from tests.servers.clamd import EICAR, Clamd
from tests.smtpd.conftest import running, services_at
from tests.smtpd.mx import add_domains, send
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    with Clamd() as server:
        yield server


@pytest.fixture(scope="module")
def guarded(clamd: Clamd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """API, worker and sink, with a virus scanner."""
    settings = load(
        {"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("guarded")), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    )
    with Service(settings, SWEEP_SECONDS=1, CLAMAV_URL=clamd.url) as service:
        service.start_worker()
        yield service


def answer(service: Service, *files: tuple[str, bytes], to: str = "ann@example.test") -> tuple[int, dict]:
    attachments = [{"filename": name, "content": b64encode(content).decode()} for name, content in files]
    message = {"to": to, "subject": "hello", "text": "hello", "attachments": attachments}
    given = service.http.post(f"{service.url}/messages", json=message, timeout=PATIENCE)
    return given.status_code, given.json()


def upload(service: Service, name: str, content: bytes, kind: str = "application/octet-stream") -> tuple[int, dict]:
    given = service.http.post(f"{service.url}/attachments", files={"file": (name, content, kind)}, timeout=PATIENCE)
    return given.status_code, given.json()


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("hello.txt", EICAR, "virus_found", "the virus scanner found Eicar-Test-Signature"),
        ("a.zip", zipped({"readme.txt": b"x", "b.txt": EICAR}), "virus_found", "Eicar"),
        ("setup.exe", PROGRAM, "file_refused", "files of type .exe are not"),
        ("invoice.pdf", PROGRAM, "file_refused", "its content is: Windows program"),
        ("a.zip", zipped({"b.zip": b"x"}), "file_refused", "it holds 'b.zip'"),
        ("invoice\u202efdp.scr", PROGRAM, "file_refused", "'invoicefdp.scr'"),
    ],
    ids=["virus", "virus in an archive", "program", "hidden program", "nested archive", "turned name"],
)
def test_a_file_that_may_not_be_sent_is_refused_at_each_door(guarded, name, content, code, words):
    for status, body in (answer(guarded, ("good.pdf", PDF), (name, content)), upload(guarded, name, content)):
        assert (status, body["error"]["code"]) == (422, code)
        assert words in body["error"]["message"]
    _, body = answer(guarded, ("good.pdf", PDF), (name, content))
    assert body["error"]["fields"] == {"attachments.1": [body["error"]["message"]]}
    assert guarded.count("PENDING") == 0
    assert guarded.get("/attachments")["count"] == 0


@pytest.mark.parametrize("how", ["dead", pytest.param("hangs", marks=pytest.mark.long)])
def test_mail_whose_files_wait_for_the_scanner_leaves_when_it_is_back_and_a_virus_in_it_never(guarded, clamd, how):
    clamd.start()
    guarded.renew()
    told = how.encode()
    if how == "dead":
        clamd.kill9()
    else:
        clamd.pause()
    try:
        status, held = answer(guarded, ("held.pdf", PDF + told), to="held@example.test")
        assert status == 201
        status, virus = answer(guarded, ("virus.txt", told + EICAR), to="virus@example.test")
        assert status == 201
        status, plain = answer(guarded, to="plain@example.test")
        guarded.ended(plain["id"], "DELIVERED")
        for one in (held, virus):
            until(lambda one=one: "waiting" in guarded.kinds(one["id"]), what="the event that it waits")
        assert guarded.copies() == {"plain@example.test": 1}
        assert guarded.attempts(held["id"]) == [0]
        events = guarded.get(f"/messages/{held['id']}/events")["events"]
        assert "The virus scanner does not answer" in str([one for one in events if one["kind"] == "waiting"])
    finally:
        clamd.resume()
        clamd.start()
    guarded.ended(held["id"], "DELIVERED")
    ended = guarded.ended(virus["id"], "ERROR")
    assert ended["reason"] == "bounced"
    assert "'virus.txt' is not accepted: the virus scanner found Eicar" in ended["deliveries"][0]["last_reply"]
    assert guarded.copies() == {"plain@example.test": 1, "held@example.test": 1}


def test_an_upload_has_a_safe_name_and_its_own_type(guarded, clamd):
    clamd.start()
    status, body = upload(guarded, "b\u202e .pdf", PDF)
    assert status == 201, body
    (made,) = body["attachments"]
    assert (made["filename"], made["content_type"]) == ("b .pdf", "application/pdf")


def test_an_upload_straight_to_the_store_is_judged_and_scanned_when_a_message_names_it(guarded, clamd):
    clamd.start()
    for content, name, code in ((PROGRAM + b"1", "a.pdf", "file_refused"), (EICAR + b"1", "a.txt", "virus_found")):
        wanted = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "filename": name}
        made = guarded.http.post(f"{guarded.url}/attachments/presign", json=wanted, timeout=PATIENCE).json()
        put = guarded.http.put(made["upload"]["url"], data=content, headers=made["upload"]["headers"], timeout=PATIENCE)
        assert put.status_code < 300, put.text
        message = {"to": "ann@example.test", "subject": "s", "text": "t", "attachments": [{"id": made["id"]}]}
        given = guarded.http.post(f"{guarded.url}/messages", json=message, timeout=PATIENCE)
        assert (given.status_code, given.json()["error"]["code"]) == (422, code)


NASTY = [
    "..", "con", "COM1.txt", "a\u202egpj.exe.txt", "\u2066a\u2069.txt", "a.txt:b.txt", "<img src=x>.txt", "a|b?*.txt",
    '"a".txt', "a.txt. .", " a.txt", "=?utf-8?q?a?=.txt", "a;b=c.txt", "%2e%2e%2fa.txt", "$(id).txt", "`id`.txt",
    "'; DROP TABLE a;--.txt", "\u200b.txt", "a\u00ad.txt", "\u3164\u3164.txt", "e\u0301.txt", "長" * 200 + ".txt",
    "😀" * 100 + ".txt", "-rf.txt", "~.txt", "ﬁ.txt",
]  # fmt: skip


def test_nasty_names_are_refused_or_arrive_as_safe_ones(guarded, clamd):
    clamd.start()
    taken = []
    for number, name in enumerate(NASTY):
        status, body = answer(guarded, (name, b"hello %d" % number), to=f"name{number}@example.test")
        assert (status, set(body)) == (400, {"error"}) or status in (201, 422), body
        if status == 201:
            taken.append(body["id"])
    assert len(taken) > 20
    for identifier in taken:
        (shown,) = guarded.message(identifier)["attachments"]
        assert shown["filename"] == safe_name(shown["filename"])
        mime = guarded.http.get(f"{guarded.url}/messages/{identifier}/raw", timeout=PATIENCE).content
        (part,) = [one for one in message_from_bytes(mime, policy=policy.default).walk() if one.get_filename()]
        assert (part.get_filename(), part.defects) == (shown["filename"], [])


def test_received_mail_with_a_virus_is_refused_whatever_the_policy_is(clamd, tmp_path):
    clamd.start()
    with services_at(tmp_path, CLAMAV_URL=clamd.url) as services:
        add_domains(services)
        with running(services, mx_port=0) as door:
            everywhere = [f"ann@{policy}.test" for policy in POLICIES]
            refused = send(door, b"Subject: x\r\n\r\n" + EICAR + b"\r\n", *everywhere)
            assert refused == ("550 5.7.1 The message has a virus (Eicar-Test-Signature.UNOFFICIAL).", [])
