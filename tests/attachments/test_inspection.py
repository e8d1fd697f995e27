"""Files are judged and scanned when they are uploaded, named by a message, and sent."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from mailbbgun.attachments import repo
from mailbbgun.attachments.find import FoundFile
from mailbbgun.attachments.inspection import Inspector, RefusedFile
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import FileRefused, ScannerUnavailable, VirusFound
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.safety.scanner import Scanner
from mailbbgun.services import Services
from tests.safety.samples import GOOD, PDF, PROGRAM, zipped
from tests.servers.clamd import EICAR, MOST, Clamd

WHO = Caller(DEFAULT_TENANT)


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    """A scanner, running. A test that stops it starts it again."""
    with Clamd() as server:
        yield server


def guarded(services: Services, clamd: Clamd, down: str = "hold") -> Services:
    settings = replace(services.settings, CLAMAV_URL=clamd.url, SCANNER_DOWN=down)
    return replace(services, settings=settings, scanner=Scanner(clamd.url, connect_seconds=2.0, seconds=20.0))


def take(inspector: Inspector, content: bytes, name: str = "a.txt", declared: str = "") -> StoredFile:
    blocks = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
    stored, judged = inspector.take(WHO, blocks, name, declared, most=20_000_000, size=len(content))
    assert judged.filename
    return stored


def file(stored: StoredFile, name: str, content_type: str | None = None) -> FoundFile:
    return FoundFile(stored.sha256, stored.md5, stored.size, stored.object_id, name, content_type, "unscanned")


def scan_of(services: Services, stored: StoredFile) -> str:
    with services.db.read(DEFAULT_TENANT) as session:
        found = repo.blob(session, DEFAULT_TENANT, stored.sha256)
        assert found is not None
        return found.scan


def test_an_upload_gets_a_safe_name_and_its_type(installed: Services) -> None:
    inspector = Inspector(installed)
    stored, judged = inspector.take(WHO, [PDF], "C:\\x\\invoice\u202e.pdf", "", most=1000, size=None)
    assert judged == ("invoice.pdf", "application/pdf")
    assert (stored.size, scan_of(installed, stored)) == (len(PDF), "unscanned")
    for name, content in (("a.pdf", PROGRAM), ("setup.exe", PROGRAM), ("a.zip", zipped({"x.exe": b"x"}))):
        with pytest.raises(FileRefused):
            take(inspector, content, name)


def test_a_message_cannot_give_a_content_a_name_that_does_not_fit(installed: Services) -> None:
    inspector = Inspector(installed)
    stored = take(inspector, GOOD["zip"], "a.zip")
    assert inspector.named(WHO, [file(stored, "../b.zip")]) == [("b.zip", "application/zip")]
    for wrong in (file(stored, "a.pdf"), file(stored, "a.exe"), file(stored, "a.zip", "text/html")):
        for asked in (inspector, Inspector(installed)):
            with pytest.raises(FileRefused):
                asked.named(WHO, [wrong])
    assert Inspector(installed).named(WHO, [file(stored, "a.zip")])[0].content_type == "application/zip"
    assert inspector.named(WHO, []) == []
    with installed.blobs.open(next(iter(installed.blobs.keys(""))).key):
        installed.blobs.delete([one.key for one in installed.blobs.keys("")])
    assert inspector.named(WHO, [file(stored, "c.zip")])  # it is not read once more


def test_a_virus_is_refused_wherever_it_is_named_and_scanned_once(installed: Services, clamd: Clamd) -> None:
    services = guarded(installed, clamd)
    inspector = Inspector(services)
    clean = take(inspector, b"hello")
    assert scan_of(services, clean) == "clean"
    before = take(Inspector(installed), EICAR)  # before the scanner was set up
    assert scan_of(services, before) == "unscanned"
    with pytest.raises(VirusFound, match=r"'b.txt' is not accepted: the virus scanner found Eicar") as caught:
        inspector.named(WHO, [file(clean, "a.txt"), file(before, "b.txt")])
    assert (caught.value.status, caught.value.code) == (422, "virus_found")
    assert scan_of(services, before) == "infected"
    clamd.kill9()
    try:
        for again in (
            lambda: take(inspector, EICAR),
            lambda: inspector.ready(DEFAULT_TENANT, {before.sha256: "b.txt"}),
        ):
            with pytest.raises(VirusFound):
                again()
        inspector.ready(DEFAULT_TENANT, {clean.sha256: "a.txt"})
        inspector.ready(new_id(), {before.sha256: "b.txt"})  # another tenant's is not ours
    finally:
        clamd.start()


def test_while_the_scanner_is_down_files_wait_are_refused_or_go_out_as_the_setting_says(
    installed: Services, clamd: Clamd
) -> None:
    hold, reject, allow = (Inspector(guarded(installed, clamd, down)) for down in ("hold", "reject", "allow"))
    clamd.kill9()
    try:
        stored = take(hold, b"held until it is scanned")
        held = file(stored, "a.txt")
        hold.named(WHO, [held])
        with pytest.raises(ScannerUnavailable):
            hold.ready(DEFAULT_TENANT, {stored.sha256: "a.txt"})
        for refused in (lambda: take(reject, b"x"), lambda: reject.named(WHO, [held])):
            with pytest.raises(ScannerUnavailable) as caught:
                refused()
            assert (caught.value.status, caught.value.retry_after) == (503, 5)
        take(allow, b"y")
        allow.named(WHO, [held])
        allow.ready(DEFAULT_TENANT, {stored.sha256: "a.txt"})
        virus = take(hold, EICAR + b" held")
    finally:
        clamd.start()
    hold = Inspector(guarded(installed, clamd))  # the other one asks again in some seconds
    hold.ready(DEFAULT_TENANT, {stored.sha256: "a.txt"})
    assert scan_of(installed, stored) == "clean"
    with pytest.raises(VirusFound):
        hold.ready(DEFAULT_TENANT, {virus.sha256: "a.txt"})


def test_a_file_that_cannot_be_scanned_is_refused_unless_all_may_go_unscanned(
    installed: Services, clamd: Clamd
) -> None:
    with pytest.raises(FileRefused, match=r"cannot scan it: .*size limit"):
        take(Inspector(guarded(installed, clamd)), b"x" * 3 * MOST)
    stored = take(Inspector(guarded(installed, clamd, "allow")), b"x" * 3 * MOST)
    assert scan_of(installed, stored) == "unscannable"


def mail(name: str, content: bytes, first: str = "From") -> bytes:
    made = EmailMessage(policy=SMTP)
    made[first] = "shop@example.com"
    made.set_content("Hello\n")
    made.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def test_the_files_in_a_whole_mail_are_judged_and_each_refusal_is_told(installed: Services) -> None:
    told: list[tuple[Caller, RefusedFile]] = []
    inspector = Inspector(installed, lambda *file: told.append(file))
    for name, content in GOOD.items():
        inspector.mail(WHO, mail(f"a.{name}", content))
    for name, content in (("a.pdf", PROGRAM), ("setup.exe", b"x"), ("a.zip", zipped({"x.exe": b"x"}))):
        with pytest.raises(FileRefused, match=name):
            inspector.mail(WHO, mail(name, content))
        who, file = told.pop()
        assert (who, file.filename, file.sha256) == (WHO, name, hashlib.sha256(content).hexdigest())
        assert (file.size, file.reason, name in file.why) == (len(content), "file_refused", True)
    assert told == []


def test_a_whole_mail_is_scanned_and_kept_by_its_sender_while_the_scanner_is_down(
    installed: Services, clamd: Clamd
) -> None:
    told: list[tuple[Caller, RefusedFile]] = []
    hold, reject, allow = (
        Inspector(guarded(installed, clamd, down), lambda *file: told.append(file))
        for down in ("hold", "reject", "allow")
    )
    hold.mail(WHO, mail("a.txt", b"hello"))
    for first in ("From", "X-Unknown"):
        with pytest.raises(VirusFound, match="Eicar"):
            hold.mail(WHO, mail("a.txt", EICAR, first))
    assert [file.reason for _, file in told] == ["virus_found"] * 2
    clamd.kill9()
    try:
        for refused in (hold, reject):
            with pytest.raises(ScannerUnavailable):
                refused.mail(WHO, mail("a.txt", b"hello"))
        allow.mail(WHO, mail("a.txt", b"hello"))
        with pytest.raises(FileRefused):
            allow.mail(WHO, mail("a.exe", b"hello"))
    finally:
        clamd.start()
