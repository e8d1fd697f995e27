"""8-bit mail that an application submits by SMTP, and the server that it leaves through has no 8BITMIME."""

from collections.abc import Iterator
from contextlib import ExitStack
from email import message_from_bytes
from uuid import uuid4

import pytest

from bench.peers.postfix import Postfix
from mailbbgun.settings.load import load
from tests.flow.service import until
from tests.flow.smtp_service import SmtpService
from tests.smtp.authority import Authority
from tests.smtp.peers import Peer

TEXT = "Grüße aus Köln\r\n.\r\nзима\r\n"
PICTURE = b"\r\n".join([bytes(range(128, 256))] * 10)


@pytest.fixture(scope="module")
def arriving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmtpService, Peer]]:
    """A service whose mail leaves through a Postfix that does not offer 8BITMIME, and the server behind that."""
    folder = tmp_path_factory.mktemp("seven")
    settings = load({"MAILBBGUN_VAR": str(folder / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    with ExitStack() as stack:
        peer = stack.enter_context(Peer())
        postfix = stack.enter_context(Postfix(peer.port, 2, 2))
        with (postfix._folder / "etc" / "main.cf").open("a") as main:
            main.write("smtpd_discard_ehlo_keywords = 8bitmime, smtputf8\n")
        postfix.open()
        postfix.shut()
        postfix.deliver()
        url = f"smtp://127.0.0.1:{postfix.port}?security=none"
        service = stack.enter_context(SmtpService(settings, authority=Authority(folder), SMTP_URL=url))
        service.start_worker()
        yield service, peer


def test_it_arrives_with_the_same_text_and_files(arriving: tuple[SmtpService, Peer]) -> None:
    service, peer = arriving
    to, part = f"{uuid4()}@example.test", b"\r\n--b\r\nContent-Type: "
    mail = b"".join(
        [
            b"From: shop@example.com\r\nTo: " + to.encode() + b"\r\nSubject: x\r\nMIME-Version: 1.0\r\n",
            b"Content-Transfer-Encoding: 8bit\r\nContent-Type: multipart/mixed; boundary=b\r\n",
            part + b"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TEXT.encode(),
            part + b"text/plain\r\n\r\nleft as it is",
            part + 'image/png; name="Köln.png"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'.encode() + PICTURE,
            b"\r\n--b--\r\n",
        ]
    )
    with service.smtp() as client:
        assert client.sendmail("shop@example.com", [to], mail, mail_options=["BODY=8BITMIME"]) == {}
    service.ended(until(lambda: service.sent_to(to))["id"], "DELIVERED")
    until(lambda: peer.messages, what="the mail that Postfix passes on")
    (message,) = peer.messages
    whole = message.raw.replace(b"\r\n..", b"\r\n.")
    assert whole.isascii()
    assert b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nleft as it is\r\n--b\r\n" in whole
    text, same, picture = message_from_bytes(whole).get_payload()
    assert text.get_payload(decode=True) == TEXT.encode()
    assert (same["Content-Transfer-Encoding"], picture.get_filename()) == (None, "Köln.png")
    assert picture.get_payload(decode=True) == PICTURE
