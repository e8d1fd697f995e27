"""Row S17, an attacker on the line: no password is sent without TLS, and after a failed handshake
nothing at all is sent.

A `Tap` stands between client and server. It records every octet of the client and changes what is
sent without TLS.
"""

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mailbbgun.relays.pool import Pool
from mailbbgun.relays.probe import probe
from mailbbgun.relays.redact import MARK, Redactor
from mailbbgun.relays.relay import SmartHost
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Delivered, Outcome, Phase, Refused
from tests.servers.mailserver import MailServer
from tests.smtp.authority import Authority
from tests.smtp.drivers import attempted, run, with_each_driver
from tests.smtp.peers import PATIENT, Peer
from tests.waiting import PATIENCE

pytestmark = with_each_driver

TIMEOUTS = replace(PATIENT, quit=1)
PASSWORD = "open sesame, 40 thieves"
BODY = b"Subject: for nobody else\r\n\r\nthe treasure is in the cave\r\n"
MAIL = Envelope("from@client.test", ("to@peer.test",), BODY)
RECORD_ALERT, RECORD_HANDSHAKE, RECORD_DATA, RECORD_CHANGE = 21, 22, 23, 20
#: Only its size tells an alert of TLS 1.3 from data: two octets, their type, the tag.
ALERT_SIZE = 2 + 1 + 16


@dataclass
class Tap:
    """Listens on ``port`` and passes on to ``upstream``. Use as a context manager.

    ``answers`` maps commands to replies of the tap; such a command does not reach the server.
    ``rewrite`` changes what the server says. Both see only what is not encrypted. ``said`` has the
    octets of the client, one entry for each connection.
    """

    upstream: int
    answers: dict[bytes, bytes] = field(default_factory=dict)
    rewrite: Callable[[bytes], bytes] = bytes
    said: list[bytearray] = field(default_factory=list)

    def __enter__(self) -> "Tap":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.settled()

    def settled(self) -> None:
        """Wait until every connection so far is closed, so that all octets are recorded."""
        for thread in self._threads[1:]:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                said = bytearray()
                self.said.append(said)
                for work in (
                    lambda c=client, s=server, w=said: self._forth(c, s, w),
                    lambda c=client, s=server, w=said: self._back(c, s, w),
                ):
                    self._threads.append(threading.Thread(target=work, daemon=True))
                    self._threads[-1].start()

    def _forth(self, client: socket.socket, server: socket.socket, said: bytearray) -> None:
        with contextlib.suppress(OSError):
            while octets := client.recv(65536):
                said += octets
                answer = self.answers.get(octets.split(b" ")[0].strip().upper())
                if answer is not None:
                    client.sendall(answer)
                else:
                    server.sendall(octets)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _back(self, client: socket.socket, server: socket.socket, said: bytearray) -> None:
        with client, server, contextlib.suppress(OSError):
            while octets := server.recv(65536):
                client.sendall(octets if is_encrypted(said) else self.rewrite(octets))
            client.shutdown(socket.SHUT_RDWR)


def is_encrypted(said: bytes) -> bool:
    """Return whether the client has sent a TLS handshake record instead of a command."""
    return bool(re.search(rb"(?:\A|\n)\x16\x03", said))


def without_starttls(octets: bytes) -> bytes:
    """Return an EHLO reply without STARTTLS; if it was the last line, another line replaces it."""
    return octets.replace(b"250-STARTTLS\r\n", b"").replace(b"250 STARTTLS\r\n", b"250 AUTH PLAIN LOGIN\r\n")


def masked(octets: bytes) -> bytes:
    """Return the reply as firewalls that "fix up" SMTP change it."""
    return octets.replace(b"STARTTLS", b"XXXXXXXA")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tempting(authority: Authority) -> Iterator[Peer]:
    """A server that would accept a password without TLS."""
    with Peer(tls=authority.server("peer.test"), users={"u": PASSWORD}, mechanisms="PLAIN LOGIN") as peer:
        yield peer


def account(port: int, authority: Authority, security: str = "starttls") -> Endpoint:
    return Endpoint("peer.test", port, security, "u", PASSWORD, ("127.0.0.1",), authority.ca_file)


def attempts(endpoint: Endpoint, times: int = 1, timeouts: Timeouts = TIMEOUTS) -> list[Outcome]:
    """Return the outcomes of so many attempts in a row, sent as mail is, with a pool."""
    pool = Pool(timeouts, "client.test")
    relay = SmartHost(endpoint, pool)
    outcomes = [attempted(relay, MAIL)["to@peer.test"] for _ in range(times)]
    run(pool.close_all())
    return outcomes


def secrets_in(octets: bytes) -> list[str]:
    """Return the parts of the password (in any form) and of the mail that the octets hold."""
    text = octets.decode("latin-1")
    found = ["password"] if MARK in Redactor(PASSWORD)(text) else []
    return found + [word for word in ("AUTH", "MAIL", "treasure", "thieves") if word in text]


# -- the tap itself


def test_the_watcher_sees_a_password_that_crosses_in_clear_and_none_under_tls(
    tempting: Peer, authority: Authority
) -> None:
    with Tap(tempting.port) as tap:
        assert isinstance(attempts(account(tap.port, authority, "none"))[0], Delivered)
        assert isinstance(attempts(account(tap.port, authority))[0], Delivered)
        tap.settled()
    assert [secrets_in(said) for said in tap.said] == [["password", "AUTH", "MAIL", "treasure"], []]
    assert len(tempting.messages) == 2


# -- stripping


MEDDLING: dict[str, tuple[dict[bytes, bytes], Callable[[bytes], bytes]]] = {
    "not offered": ({}, without_starttls),
    "masked": ({}, masked),
    "refused for now": ({b"STARTTLS": b"454 4.7.0 TLS not available\r\n"}, bytes),
    "unknown": ({b"STARTTLS": b"502 5.5.1 command not implemented\r\n"}, bytes),
    "answered as if it were done": ({b"STARTTLS": b"250 2.0.0 ok\r\n"}, without_starttls),
    "agreed to and then not spoken": ({b"STARTTLS": b"220 go ahead\r\n"}, bytes),
    "agreed to with words in clear behind": (
        {b"STARTTLS": b"220 go ahead\r\n250-peer.test\r\n250 AUTH PLAIN LOGIN\r\n"},
        bytes,
    ),
    "EHLO unknown": ({b"EHLO": b"502 5.5.1 command not implemented\r\n"}, bytes),
}


@pytest.mark.parametrize("security", ["starttls", "opportunistic"])
@pytest.mark.parametrize(("answers", "rewrite"), MEDDLING.values(), ids=MEDDLING)
def test_a_stripped_line_gets_neither_password_nor_mail_however_often_it_is_tried(
    security: str, answers: dict[bytes, bytes], rewrite: Callable[[bytes], bytes], tempting: Peer, authority: Authority
) -> None:
    hasty = replace(TIMEOUTS, tls=0.3)  # for the handshake that nobody answers
    with Tap(tempting.port, answers, rewrite) as tap:
        endpoint = account(tap.port, authority, security)
        outcomes = attempts(endpoint, 2, hasty)
        told = probe(endpoint, "client.test", hasty, MAIL)
        tap.settled()
    assert len(tap.said) >= 3
    assert [found for said in tap.said for found in secrets_in(said)] == []
    assert not any(isinstance(outcome, Delivered) for outcome in outcomes)
    assert not told.ok
    assert tempting.messages == []


def test_mail_goes_through_as_soon_as_nobody_meddles_any_more(tempting: Peer, authority: Authority) -> None:
    with Tap(tempting.port, rewrite=without_starttls) as tap:
        endpoint = account(tap.port, authority)
        outcome = attempts(endpoint)[0]
        assert (type(outcome), outcome.phase) == (Refused, Phase.STARTTLS)
        tap.rewrite = bytes
        assert isinstance(attempts(endpoint)[0], Delivered)
        tap.settled()
    assert [found for said in tap.said for found in secrets_in(said)] == []


def test_a_providers_server_behind_the_stripper_hears_no_password_either(tmp_path: Path) -> None:
    with (
        MailServer(tmp_path, {"u": PASSWORD}, hosts=("peer.test",)) as server,
        Tap(server.port, rewrite=without_starttls) as tap,
    ):
        endpoint = Endpoint("peer.test", tap.port, "starttls", "u", PASSWORD, ("127.0.0.1",), server.ca_file)
        assert isinstance(attempts(endpoint)[0], Refused)
        tap.settled()
        assert server.taken() == []
        tap.rewrite = bytes
        assert isinstance(attempts(endpoint)[0], Delivered)
        tap.settled()
        assert [taken["sha"] for taken in server.taken()] == [hashlib.sha256(BODY).hexdigest()]
    assert [found for said in tap.said for found in secrets_in(said)] == []


# -- certificates


def records(said: bytes) -> list[tuple[int, int]]:
    """Return the TLS records (type, octets) after the unencrypted part (RFC 8446 §5.1)."""
    rest, found = said[said.rfind(b"STARTTLS\r\n") + len(b"STARTTLS\r\n") :] if b"STARTTLS\r\n" in said else said, []
    while rest:
        size = int.from_bytes(rest[3:5], "big")
        assert len(rest) >= 5 + size
        found.append((rest[0], size))
        rest = rest[5 + size :]
    return found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["wrong host", "expired", "self-signed"])
def test_after_a_failed_handshake_there_is_an_alert_and_nothing_else(
    fault: str, security: str, version: ssl.TLSVersion, authority: Authority
) -> None:
    host = "other.test" if fault == "wrong host" else "peer.test"
    context = authority.server(host, expired=fault == "expired", self_signed=fault == "self-signed")
    context.minimum_version = context.maximum_version = version
    with Peer(tls=context, implicit=security == "tls", users={"u": PASSWORD}) as peer, Tap(peer.port) as tap:
        outcomes = attempts(account(tap.port, authority, security), times=2)
        tap.settled()
    assert [(type(outcome), outcome.phase) for outcome in outcomes] == [(Refused, Phase.TLS)] * 2
    assert len(tap.said) == 2
    assert peer.messages == []
    for said in tap.said:
        assert secrets_in(said) == []
        if security == "starttls":
            assert said.startswith(b"EHLO client.test\r\nSTARTTLS\r\n\x16\x03")
        first, *rest = records(said)
        assert first[0] == RECORD_HANDSHAKE
        assert [kind for kind, _ in rest if kind == RECORD_HANDSHAKE] == []
        assert all(size <= ALERT_SIZE for _, size in rest)
        assert len([kind for kind, _ in rest if kind in (RECORD_ALERT, RECORD_DATA)]) <= 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_the_second_connection_for_a_bad_certificate_sends_nothing_secret(
    security: str, version: ssl.TLSVersion, authority: Authority
) -> None:
    context = authority.server("other.test")
    context.minimum_version = context.maximum_version = version
    with Peer(tls=context, implicit=security == "tls", users={"u": PASSWORD}) as peer, Tap(peer.port) as tap:
        told = probe(account(tap.port, authority, security), "client.test", TIMEOUTS, MAIL)
        tap.settled()
    assert isinstance(told.verdict, Refused)
    assert told.steps[-1].tls is not None
    assert told.steps[-1].tls.certificate is not None
    assert len(tap.said) == 2
    looked = [kind for kind, _ in records(tap.said[1])]
    # TLS 1.3 sends its Finished as a data record; TLS 1.2 sends none before the first command.
    assert looked.count(RECORD_DATA) == (1 if version is ssl.TLSVersion.TLSv1_3 else 0)
    assert set(looked) <= {RECORD_HANDSHAKE, RECORD_CHANGE, RECORD_DATA}
    assert [found for said in tap.said for found in secrets_in(said)] == []
    assert not [command for command in peer.commands if command not in (b"EHLO client.test", b"STARTTLS")]


@pytest.mark.parametrize(
    "endpoint", [Endpoint("h"), Endpoint("h", security="starttls"), Endpoint("h", security="tls", verify=False)]
)
def test_nothing_older_than_tls_1_2_is_spoken(endpoint: Endpoint) -> None:
    assert endpoint.tls_context().minimum_version is ssl.TLSVersion.TLSv1_2
