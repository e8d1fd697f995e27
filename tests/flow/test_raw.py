"""Raw MIME from accept to a server and to the catcher, with every process behind accept real."""

import hashlib
from collections.abc import Iterator
from email import message_from_bytes
from uuid import uuid4

import pytest

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Options, Raw
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYBODY, Caller, KeyKind
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.templates.resolve import Templates
from tests.flow.service import until
from tests.flow.tried import Tried
from tests.waiting import PATIENCE

TESTS = Caller(DEFAULT_TENANT, kind=KeyKind.TEST)


@pytest.fixture(scope="module")
def service(tried: Tried) -> Tried:
    return tried


@pytest.fixture
def acceptor(service: Tried) -> Iterator[Acceptor]:
    """Accept as a door has it, in a process of its own beside the API and the worker."""
    services = build(load(service.environment))
    store, publisher = Store(services.db, 86_400), Publisher(services.db, services.queue)
    yield Acceptor(
        services.settings,
        store,
        publisher,
        Attached(services, Inspector(services)),
        Templates(services.db),
    )
    store.close()
    publisher.close()
    services.close()


def written(subject: str, *lines: bytes) -> bytes:
    """Return a message as a client's own library writes it, with whatever is hard to keep."""
    head = [
        b"Received: from cart.example.com by shop.example.com; Fri, 30 Jan 2026 12:00:00 +0000",
        b"From:  Shop   <shop@example.com>", b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com;", b"\t bh=abc=",
        b"to:ann@example.com", b"Subject: " + subject.encode(), *lines,
        b"MIME-Version: 1.0", b'Content-Type: multipart/mixed; boundary="b"',
    ]  # fmt: skip
    body = [
        b"", b"preamble ", b"--b", b"", b".", b"..", b".a line of dots", b"", b"--b",
        b"Content-Transfer-Encoding: 8bit", b"",
        "Gr\u00fc\u00dfe \u2713".encode(), b"and octets \xff\xfe\x80", b"x" * 998, b"--b--", b"", b"",
    ]  # fmt: skip
    return b"\r\n".join([*head, *body])


def digest(message: bytes) -> str:
    """Return the sink's digest of a message, which has its dots stuffed (RFC 5321 §4.5.2)."""
    return hashlib.sha256(message.replace(b"\r\n.", b"\r\n..")).hexdigest()


def mime(service: Tried, identifier: str, key: str | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return service.http.get(f"{service.url}/messages/{identifier}/raw", headers=headers, timeout=PATIENCE).content


@pytest.mark.parametrize("tries", [0, 1])
def test_raw_mime_arrives_as_the_very_bytes_that_the_client_wrote_but_for_bcc(
    service: Tried, acceptor: Acceptor, tries: int
) -> None:
    message_id = f"<{uuid4()}@shop.example.com>".encode()
    own = (b"Date: Fri, 30 Jan 2026 13:00:00 +0100", b"Message-ID:", b" " + message_id)
    to = [f"later-{tries}-{uuid4()}@example.com", f"hidden-{uuid4()}@example.com"]
    given, kept = (
        written("as it is", b"Bcc: " + to[1].encode() + b",", b" x@example.com", *own),
        written("as it is", *own),
    )
    raw = Raw(mime=given, recipients=to, mail_from="bounces@shop.example.com")
    accepted = acceptor.accept(raw, ANYBODY, Options(idempotency_key=str(uuid4()))).result()
    message = service.ended(accepted.id, "DELIVERED")
    assert (message["from"], message["mail_from"], message["subject"]) == (
        "Shop <shop@example.com>",
        "bounces@shop.example.com",
        "as it is",
    )
    assert (message["bcc"], message["message_id_header"], message["size"]) == (to, message_id.decode(), len(kept))
    took = [one for one in service.taken() if set(one["to"]) & set(to)]
    assert {one["sha"] for one in took} == {digest(kept)}
    assert sorted(address for one in took for address in one["to"]) == sorted(to)
    assert mime(service, accepted.id) == kept


def test_raw_mime_without_date_and_message_id_gets_them_once_and_keeps_them_at_each_try(
    service: Tried, acceptor: Acceptor
) -> None:
    to = [f"later-1-{uuid4()}@example.com", f"ann-{uuid4()}@example.com"]
    accepted = acceptor.accept(Raw(mime=written("bare"), recipients=to), ANYBODY).result()
    service.ended(accepted.id, "DELIVERED")
    sent = mime(service, accepted.id)
    added, _, rest = sent.partition(b"Received:")
    assert b"Received:" + rest == written("bare")
    assert message_from_bytes(added)["Message-ID"] == f"<{accepted.id}@mail.example.com>"
    assert message_from_bytes(added).keys() == ["Date", "Message-ID"]
    took = [one for one in service.taken() if set(one["to"]) & set(to)]
    assert len(took) == 2
    assert {one["sha"] for one in took} == {digest(sent)}
    assert sorted(service.kinds(accepted.id)) == ["accepted", "deferred", "delivered", "delivered"]


def test_raw_mime_of_a_test_key_is_caught_whole(service: Tried, acceptor: Acceptor) -> None:
    given = written(
        "caught", b"Bcc: eve@example.com", b"Date: Fri, 30 Jan 2026 13:00:00 +0100", b"Message-ID: <caught@example.com>"
    )
    accepted = acceptor.accept(Raw(mime=given, recipients=["ann@example.com", "bob@example.com"]), TESTS).result()
    until(lambda: service.caught() == ["ann@example.com", "bob@example.com"], what="the mail in the catcher")
    (caught,) = [file.read_bytes() for file in (service.var / "mail" / "new").iterdir()]
    envelope, kept = caught.split(b"Received:", 1)
    assert b"Received:" + kept == given.replace(b"Bcc: eve@example.com\r\n", b"").replace(b"\r\n", b"\n")
    assert message_from_bytes(envelope)["X-Envelope-From"] == "shop@example.com"
    assert mime(service, accepted.id, service.test) == given.replace(b"Bcc: eve@example.com\r\n", b"")
