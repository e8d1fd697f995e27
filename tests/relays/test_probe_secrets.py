"""A probe of an untrusted server: refused certificates, and passwords in the replies."""

import base64
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from mailbbgun.smtp.outcome import Refused
from tests.relays.probing import MAIL, PASSWORD, tried
from tests.smtp.authority import Authority
from tests.smtp.clients import plain
from tests.smtp.peers import Dialogue, Gone, Peer

# -- certificates that are not accepted


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("wrong host", "mismatch"),
        ("expired", "expired"),
        ("self-signed", "self-signed"),
        ("unknown authority", "signature"),
    ],
)
def test_a_refused_certificate_is_shown_and_nothing_is_said_to_who_has_it(
    security: str, fault: str, why: str, authority: Authority, tmp_path: Path
) -> None:
    host = "other.test" if fault == "wrong host" else "peer.test"
    context = authority.server(host, expired=fault == "expired", self_signed=fault == "self-signed")
    ca_file = Authority(tmp_path).ca_file if fault == "unknown authority" else authority.ca_file
    with Peer(tls=context, implicit=security == "tls", users={"u": PASSWORD}) as peer:
        told = tried(plain(peer, security=security, ca_file=ca_file, username="u", password=PASSWORD), MAIL)
    failed = told.steps[-1]
    assert (failed.name, failed.ok) == ("tls", False)
    assert failed.reply is not None
    assert why in failed.reply.text.lower()
    assert failed.tls is not None
    assert failed.tls.certificate is not None
    assert failed.tls.certificate.subject == f"CN={host}"
    assert failed.tls.certificate.issuer == (f"CN={host}" if fault == "self-signed" else "CN=test authority")
    assert failed.tls.certificate.names == (host,)
    assert failed.tls.certificate.not_after < (
        "2099" if fault != "expired" else time.strftime("%Y-%m-%dT%H", time.gmtime())
    )
    assert isinstance(told.verdict, Refused)
    assert peer.connections == 2
    assert peer.commands == ([b"EHLO client.test", b"STARTTLS"] * 2 if security == "starttls" else [])


def test_a_certificate_hidden_at_the_second_connection_is_not_shown(authority: Authority) -> None:
    tries: list[int] = []

    def second_time_shy(dialogue: Dialogue) -> None:
        tries.append(1)
        if len(tries) > 1:
            raise Gone

    with Peer(tls=authority.server("other.test"), implicit=True, at={"tls": second_time_shy}) as peer:
        told = tried(plain(peer, security="tls", ca_file=authority.ca_file))
    assert told.steps[-1].tls is not None
    assert told.steps[-1].tls.certificate is None
    assert isinstance(told.verdict, Refused)


def test_what_is_no_tls_at_all_is_not_asked_for_its_certificate() -> None:
    def talk_clear(dialogue: Dialogue) -> None:
        dialogue.socket.recv(1)
        dialogue.say(b"220 peer.test ESMTP\r\n")
        raise Gone

    with Peer(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), implicit=True, at={"tls": talk_clear}) as peer:
        told = tried(plain(peer, security="tls"))
    assert (told.steps[-1].name, told.steps[-1].tls) == ("tls", None)
    assert peer.connections == 1


# -- passwords


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


ECHOES: dict[str, Callable[[Dialogue], bytes]] = {
    "what it was told": lambda dialogue: b"535 5.7.8 no: %b\r\n" % dialogue.command,
    "the password": lambda dialogue: b"535 5.7.8 no: %b\r\n" % PASSWORD.encode(),
    "the password first": lambda dialogue: b"535 %b\r\n" % PASSWORD.encode(),
    "the password in capitals": lambda dialogue: b"454 4.7.0 no: %b\r\n" % PASSWORD.upper().encode(),
    "its base64": lambda dialogue: b"535 5.7.8 no: %b\r\n" % b64(PASSWORD),
    "its hexadecimal": lambda dialogue: b"535 5.7.8 no: %b\r\n" % PASSWORD.encode().hex().encode(),
    "what it was told, over several lines": lambda dialogue: (
        b"535-%b\r\n535-%b\r\n535 %b\r\n" % (dialogue.command[:16], dialogue.command[16:24], dialogue.command[24:])
    ),
    "no reply at all": lambda dialogue: b"%b\r\n" % PASSWORD.encode(),
    "a good answer": lambda dialogue: b"235 2.7.0 welcome %b\r\n" % dialogue.command,
    "the end of a long answer": lambda dialogue: b"535 %b%b\r\n" % (b"x" * 2040, PASSWORD.encode()),
    "421": lambda dialogue: b"421 4.3.2 %b\r\n" % dialogue.command,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_server_that_says_the_password_back_is_not_quoted(
    echo: Callable[[Dialogue], bytes], authority: Authority
) -> None:
    with Peer(
        at={"auth": lambda dialogue: dialogue.say(echo(dialogue)), "mail": b"550 5.7.1 %b\r\n" % PASSWORD.encode()},
        users={"u": PASSWORD}, tls=authority.server("peer.test"), implicit=True,
    ) as peer:  # fmt: skip
        told = tried(plain(peer, security="tls", ca_file=authority.ca_file, username="u", password=PASSWORD), MAIL)
    shown = (json.dumps(asdict(told), ensure_ascii=False) + repr(told)).lower().replace(" ", "")
    encoded = [b64(PASSWORD).decode()[:12], b64(f"\0u\0{PASSWORD}").decode()[8:16], PASSWORD.encode().hex()]
    secrets = [PASSWORD, repr(PASSWORD)[1:-1], PASSWORD[:8], *encoded]
    assert not [secret for secret in secrets if secret.lower().replace(" ", "") in shown]
    assert not told.ok


def test_a_certificate_made_to_show_the_password_does_not(authority: Authority) -> None:
    with Peer(tls=authority.server("correct-horse.test", "correct-horse"), implicit=True) as peer:
        told = tried(plain(peer, security="tls", ca_file=authority.ca_file, username="u", password="correct-horse"))
    assert told.steps[-1].tls is not None
    assert "correct-horse" not in repr(told)
