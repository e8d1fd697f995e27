"""Opening a session: greeting, TLS, authentication, and every way a server can fail at them."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.outcome import Deferred, Phase, Refused
from tests.smtp.authority import Authority
from tests.smtp.behaviours import drip, endless, endless_line, half_a_line, reset, silent
from tests.smtp.clients import plain, quick, refusal
from tests.smtp.drivers import opened, quit_, with_each_driver
from tests.smtp.peers import PATIENT, Behaviour, Dialogue, Gone, Peer, hang_up

pytestmark = with_each_driver

FAILURES: list[tuple[str, Behaviour, type, int]] = [
    ("4xx", b"451 4.3.0 later\r\n", Deferred, 451),
    ("421", b"421 4.3.2 closing\r\n", Deferred, 421),
    ("garbage", b"\x00\x01 SSH-2.0\r\n", Deferred, 0),
    ("silence", silent, Deferred, 0),
    ("half a line", half_a_line, Deferred, 0),
    ("a drip", drip, Deferred, 0),
    ("endless lines", endless, Deferred, 0),
    ("an endless line", endless_line, Deferred, 0),
    ("closes", hang_up, Deferred, 0),
    ("resets", reset, Deferred, 0),
    ("5xx", b"554 5.7.1 no\r\n", Deferred, 554),
]


@pytest.mark.parametrize("phase", [Phase.BANNER, Phase.EHLO])
@pytest.mark.parametrize(("name", "behaviour", "kind", "code"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_server_failing_before_mail_defers(phase: Phase, name: str, behaviour: bytes, kind: type, code: int) -> None:
    with Peer(at={phase: behaviour}) as peer:
        outcome = refusal(plain(peer), quick(phase))
    assert (type(outcome), outcome.phase, outcome.reply.code) == (kind, phase, code)


@pytest.mark.parametrize(("name", "behaviour", "kind", "code"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_server_failing_at_required_starttls_never_fails_the_mail(
    name: str, behaviour: bytes, kind: type, code: int, authority: Authority
) -> None:
    with Peer(at={"starttls": behaviour}, tls=authority.server("peer.test")) as peer:
        outcome = refusal(plain(peer, security="starttls", ca_file=authority.ca_file), quick("tls"))
    assert outcome.phase is Phase.STARTTLS
    assert isinstance(outcome, Refused if name in ("4xx", "5xx") else Deferred)


@pytest.mark.parametrize(("name", "behaviour", "kind", "code"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_server_failing_at_auth_never_fails_the_mail(name: str, behaviour: bytes, kind: type, code: int) -> None:
    with Peer(at={"auth": behaviour}, users={"u": "p"}) as peer:
        outcome = refusal(plain(peer, username="u", password="p"), quick("auth"))
    assert outcome.phase is Phase.AUTH
    assert isinstance(outcome, Refused if name == "5xx" else Deferred)


@pytest.mark.parametrize("behaviour", [silent, hang_up, reset, b"not TLS\r\n"])
def test_a_broken_handshake_fails_where_tls_is_required_and_falls_back_where_it_is_not(
    behaviour: bytes, authority: Authority
) -> None:
    def handshake(dialogue: Dialogue) -> None:
        dialogue.socket.recv(1)  # the handshake has begun
        dialogue.do(behaviour)
        raise Gone

    with Peer(at={"tls": handshake}, tls=authority.server("peer.test")) as peer:
        outcome = refusal(plain(peer, security="starttls", ca_file=authority.ca_file), quick("tls"))
        assert outcome.phase is Phase.TLS
        assert isinstance(outcome, Refused if isinstance(behaviour, bytes) else Deferred)
        connection = opened(plain(peer, security="opportunistic"), "client.test", quick("tls"))
        assert (connection.tls, peer.connections) == (False, 3)
        quit_(connection)


def test_nobody_listening_is_deferred_at_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = refusal(Endpoint("127.0.0.1", port, "none"))
    assert isinstance(outcome, Deferred)
    assert (outcome.phase, outcome.reply.enhanced) == (Phase.CONNECT, "4.4.1")


def test_a_name_that_does_not_resolve_is_deferred_at_dns() -> None:
    outcome = refusal(Endpoint("no\u00a0such..name", 25, "none"))
    assert (type(outcome), outcome.phase) == (Deferred, Phase.DNS)


def test_the_next_address_is_tried_when_one_refuses() -> None:
    with Peer() as peer:
        quit_(opened(plain(peer, addresses=("127.0.0.9", "127.0.0.1")), "client.test", PATIENT))


def test_no_byte_is_sent_before_a_valid_banner() -> None:
    for greeting in (b"+OK POP3\r\n", b"-ERR unknown\r\n", b"HTTP/1.1 400 Bad\r\n", b"AMQP\x00\x00\x09\x01\r\n"):
        with Peer(at={"banner": greeting}) as peer:
            outcome = refusal(plain(peer))
            assert (outcome.phase, outcome.reply.enhanced) == (Phase.BANNER, "4.5.0")
        assert peer.commands == []


def test_an_impossible_name_to_greet_with_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="EHLO"):
        opened(Endpoint("127.0.0.1", 1), "a\r\nMAIL", PATIENT)


@pytest.mark.parametrize("code", [500, 501, 502, 503, 504])
def test_a_server_without_ehlo_is_greeted_with_helo(code: int) -> None:
    with Peer(at={"ehlo": b"%d unknown\r\n" % code}) as peer:
        connection = opened(plain(peer), "client.test", PATIENT)
        assert connection.extensions == {}
        quit_(connection)
    assert peer.commands == [b"EHLO client.test", b"HELO client.test", b"QUIT"]


# -- TLS


def test_required_starttls_checks_and_asks_again_what_is_offered(authority: Authority) -> None:
    with Peer(tls=authority.server("peer.test")) as peer:
        endpoint = plain(peer, security="starttls", ca_file=authority.ca_file)
        connection = opened(endpoint, "client.test", PATIENT)
        assert connection.tls
        assert "STARTTLS" not in connection.extensions
        quit_(connection)
    assert peer.commands == [b"EHLO client.test", b"STARTTLS", b"EHLO client.test", b"QUIT"]


def test_implicit_tls_is_spoken_from_the_first_byte(authority: Authority) -> None:
    with Peer(tls=authority.server("peer.test"), implicit=True) as peer:
        connection = opened(plain(peer, security="tls", ca_file=authority.ca_file), "client.test", PATIENT)
        assert connection.tls
        quit_(connection)


def test_an_address_can_be_certified_too(authority: Authority) -> None:
    with Peer(tls=authority.server("127.0.0.1"), implicit=True) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "tls", ca_file=authority.ca_file)
        quit_(opened(endpoint, "client.test", PATIENT))


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["wrong host", "expired", "self-signed", "unknown authority"])
def test_a_bad_certificate_is_refused_before_anything_is_said(
    security: str, fault: str, authority: Authority, tmp_path: Path
) -> None:
    host = "other.test" if fault == "wrong host" else "peer.test"
    context = authority.server(host, expired=fault == "expired", self_signed=fault == "self-signed")
    ca_file = Authority(tmp_path).ca_file if fault == "unknown authority" else authority.ca_file
    with Peer(tls=context, implicit=security == "tls", users={"u": "p"}) as peer:
        endpoint = plain(peer, security=security, ca_file=ca_file, username="u", password="p")
        outcome = refusal(endpoint)
        assert (type(outcome), outcome.phase, outcome.reply.enhanced) == (Refused, Phase.TLS, "4.7.5")
        assert "certificate" in outcome.reply.text
        assert not any(command.startswith((b"AUTH", b"MAIL")) for command in peer.commands)
        quit_(opened(replace(endpoint, verify=False), "client.test", PATIENT))


def test_opportunistic_tls_takes_any_certificate(authority: Authority) -> None:
    with Peer(tls=authority.server("other.test", expired=True, self_signed=True)) as peer:
        connection = opened(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert connection.tls
        quit_(connection)


@pytest.mark.parametrize("at", [{}, {"ehlo": b"502 5.5.1 what\r\n"}])
def test_a_server_without_starttls_is_refused_where_tls_is_required_only(at: dict[str, bytes]) -> None:
    with Peer(at=at) as peer:
        outcome = refusal(plain(peer, security="starttls"))
        assert (type(outcome), outcome.phase) == (Refused, Phase.STARTTLS)
        connection = opened(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert not connection.tls
        quit_(connection)


def test_a_refused_starttls_leaves_an_opportunistic_session_in_clear(authority: Authority) -> None:
    with Peer(at={"starttls": b"454 4.7.0 not now\r\n"}, tls=authority.server("peer.test")) as peer:
        connection = opened(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert (connection.tls, peer.connections) == (False, 1)
        quit_(connection)


@pytest.mark.parametrize("security", ["starttls", "opportunistic"])
def test_plain_text_injected_after_starttls_is_not_taken_for_the_server(security: str, authority: Authority) -> None:
    def inject(dialogue: Dialogue) -> None:
        dialogue.say(b"220 go\r\n250-evil.test\r\n250 AUTH PLAIN\r\n")
        dialogue.socket.recv(1)
        raise Gone

    with Peer(at={"starttls": inject}, tls=authority.server("peer.test")) as peer:
        outcome = refusal(plain(peer, security=security, ca_file=authority.ca_file))
    assert (type(outcome), outcome.phase) == (Refused, Phase.STARTTLS)
    assert peer.connections == 1


def test_a_ca_file_that_is_missing_or_empty_is_refused_without_connecting(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with Peer() as peer:
        for file in (tmp_path / "missing", tmp_path / "empty"):
            outcome = refusal(plain(peer, security="tls", ca_file=str(file)))
            assert (type(outcome), outcome.phase) == (Refused, Phase.TLS)
    assert peer.connections == 0
