"""Opening a session: greeting, TLS, authentication, and every way a server can fail at them."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Phase, Refused
from tests.smtp.authority import Authority
from tests.smtp.peers import (
    PATIENT,
    Behaviour,
    Dialogue,
    Gone,
    Peer,
    drip,
    endless,
    endless_line,
    half_a_line,
    hang_up,
    in_turn,
    only,
    reset,
    silent,
    then_close,
)


def quick(phase: str) -> Timeouts:
    """Return timeouts that are short only at the phase under test, for a busy machine's sake."""
    return replace(PATIENT, **{phase: 0.1})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def plain(peer: Peer, **more: object) -> Endpoint:
    return replace(Endpoint("peer.test", peer.port, "none", addresses=("127.0.0.1",)), **more)


def refusal(endpoint: Endpoint, timeouts: Timeouts = PATIENT) -> Deferred | Refused:
    with pytest.raises(CannotOpen) as caught:
        SMTPConnection.open(endpoint, "client.test", timeouts)
    return caught.value.outcome


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
        connection = SMTPConnection.open(plain(peer, security="opportunistic"), "client.test", quick("tls"))
        assert (connection.tls, peer.connections) == (False, 3)
        connection.quit()


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
        SMTPConnection.open(plain(peer, addresses=("127.0.0.9", "127.0.0.1")), "client.test", PATIENT).quit()


def test_no_byte_is_sent_before_a_valid_banner() -> None:
    for greeting in (b"+OK POP3\r\n", b"-ERR unknown\r\n", b"HTTP/1.1 400 Bad\r\n", b"AMQP\x00\x00\x09\x01\r\n"):
        with Peer(at={"banner": greeting}) as peer:
            outcome = refusal(plain(peer))
            assert (outcome.phase, outcome.reply.enhanced) == (Phase.BANNER, "4.5.0")
        assert peer.commands == []


def test_an_impossible_name_to_greet_with_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="EHLO"):
        SMTPConnection.open(Endpoint("127.0.0.1", 1), "a\r\nMAIL", PATIENT)


@pytest.mark.parametrize("code", [500, 501, 502, 503, 504])
def test_a_server_without_ehlo_is_greeted_with_helo(code: int) -> None:
    with Peer(at={"ehlo": b"%d unknown\r\n" % code}) as peer:
        connection = SMTPConnection.open(plain(peer), "client.test", PATIENT)
        assert connection.extensions == {}
        connection.quit()
    assert peer.commands == [b"EHLO client.test", b"HELO client.test", b"QUIT"]


# -- TLS


def test_required_starttls_checks_and_asks_again_what_is_offered(authority: Authority) -> None:
    with Peer(tls=authority.server("peer.test")) as peer:
        endpoint = plain(peer, security="starttls", ca_file=authority.ca_file)
        connection = SMTPConnection.open(endpoint, "client.test", PATIENT)
        assert connection.tls
        assert "STARTTLS" not in connection.extensions
        connection.quit()
    assert peer.commands == [b"EHLO client.test", b"STARTTLS", b"EHLO client.test", b"QUIT"]


def test_implicit_tls_is_spoken_from_the_first_byte(authority: Authority) -> None:
    with Peer(tls=authority.server("peer.test"), implicit=True) as peer:
        connection = SMTPConnection.open(plain(peer, security="tls", ca_file=authority.ca_file), "client.test", PATIENT)
        assert connection.tls
        connection.quit()


def test_an_address_can_be_certified_too(authority: Authority) -> None:
    with Peer(tls=authority.server("127.0.0.1"), implicit=True) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "tls", ca_file=authority.ca_file)
        SMTPConnection.open(endpoint, "client.test", PATIENT).quit()


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
        SMTPConnection.open(replace(endpoint, verify=False), "client.test", PATIENT).quit()


def test_opportunistic_tls_takes_any_certificate(authority: Authority) -> None:
    with Peer(tls=authority.server("other.test", expired=True, self_signed=True)) as peer:
        connection = SMTPConnection.open(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert connection.tls
        connection.quit()


@pytest.mark.parametrize("at", [{}, {"ehlo": b"502 5.5.1 what\r\n"}])
def test_a_server_without_starttls_is_refused_where_tls_is_required_only(at: dict[str, bytes]) -> None:
    with Peer(at=at) as peer:
        outcome = refusal(plain(peer, security="starttls"))
        assert (type(outcome), outcome.phase) == (Refused, Phase.STARTTLS)
        connection = SMTPConnection.open(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert not connection.tls
        connection.quit()


def test_a_refused_starttls_leaves_an_opportunistic_session_in_clear(authority: Authority) -> None:
    with Peer(at={"starttls": b"454 4.7.0 not now\r\n"}, tls=authority.server("peer.test")) as peer:
        connection = SMTPConnection.open(plain(peer, security="opportunistic"), "client.test", PATIENT)
        assert (connection.tls, peer.connections) == (False, 1)
        connection.quit()


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


# -- AUTH


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_each_mechanism_authenticates_and_a_wrong_password_is_refused(mechanism: str) -> None:
    with Peer(users={"j\u00fcrgen": "p\u00e4ss wort"}, mechanisms=mechanism) as peer:
        endpoint = plain(peer, username="j\u00fcrgen", password="p\u00e4ss wort")
        SMTPConnection.open(endpoint, "client.test", PATIENT).quit()
        outcome = refusal(replace(endpoint, password="wrong"))
    assert (type(outcome), outcome.phase, outcome.reply.code) == (Refused, Phase.AUTH, 535)


@pytest.mark.parametrize(
    ("encrypted", "offered", "used"),
    [
        (True, "CRAM-MD5 LOGIN PLAIN", b"AUTH PLAIN"),
        (True, "LOGIN CRAM-MD5", b"AUTH LOGIN"),
        (False, "PLAIN LOGIN CRAM-MD5", b"AUTH CRAM-MD5"),
        (False, "LOGIN PLAIN", b"AUTH PLAIN"),
    ],
)
def test_the_safest_mechanism_for_the_line_is_used(
    encrypted: bool, offered: str, used: bytes, authority: Authority
) -> None:
    with Peer(users={"u": "p"}, mechanisms=offered, tls=authority.server("peer.test"), implicit=encrypted) as peer:
        security = "tls" if encrypted else "none"
        endpoint = plain(peer, security=security, username="u", password="p", ca_file=authority.ca_file)
        SMTPConnection.open(endpoint, "client.test", PATIENT).quit()
    assert next(command for command in peer.commands if command.startswith(b"AUTH")).startswith(used)


REFUSALS = [
    b"504 5.5.4 unrecognized\r\n",
    b"502 5.5.1 not implemented\r\n",
    b"500 what\r\n",
    b"501 5.5.2 cannot decode\r\n",
    b"535 5.7.8 wrong\r\n",
    b"534 5.7.9 too weak\r\n",
    b"538 5.7.11 not so\r\n",
    b"550 5.7.1 no\r\n",
    b"554 5.7.0 no\r\n",
]


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal[:3].decode())
@pytest.mark.parametrize("works", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_mechanism_that_is_offered_and_refused_is_no_end_while_there_is_another(
    works: str, refusal: bytes, hangs_up: bool
) -> None:
    with Peer(at={"auth": only(works, refusal, hangs_up)}, users={"u": "p"}) as peer:
        SMTPConnection.open(plain(peer, username="u", password="p"), "client.test", PATIENT).quit()
    tried = [command.split()[1].decode() for command in peer.commands if command.startswith(b"AUTH")]
    order = ["CRAM-MD5", "PLAIN", "LOGIN"]
    # A refused mechanism is not tried again, on any connection.
    assert list(dict.fromkeys(tried)) == order[: order.index(works) + 1]
    assert peer.connections == (order.index(works) + 1 if hangs_up else 1)


def test_a_421_after_a_refused_mechanism_leads_to_a_fresh_connection() -> None:
    at = {"auth": in_turn(b"535 5.7.8 no\r\n", then_close(b"421 4.7.0 too many errors\r\n"), None)}
    with Peer(at=at, users={"u": "p"}) as peer:
        SMTPConnection.open(plain(peer, username="u", password="p"), "client.test", PATIENT).quit()
    assert peer.connections == 2


@pytest.mark.parametrize("code", [421, 432, 450, 454])
def test_a_temporary_failure_of_a_mechanism_ends_the_tries(code: int) -> None:
    with Peer(at={"auth": b"%d 4.7.0 later\r\n" % code}, users={"u": "p"}) as peer:
        assert refusal(plain(peer, username="u", password="p")).reply.code == code
    assert len([command for command in peer.commands if command.startswith(b"AUTH")]) == 1


@pytest.mark.parametrize("works", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_only_when_all_are_refused_are_we_and_the_refusal_that_tells_most_is_kept(works: str) -> None:
    with Peer(at={"auth": only(works, b"504 5.5.4 unrecognized\r\n")}, users={"u": "another"}) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.reply.code) == (Refused, 535)


def test_a_server_that_hangs_up_on_every_mechanism_is_not_asked_for_ever() -> None:
    with Peer(at={"auth": then_close(b"535 5.7.8 wrong\r\n")}, users={"u": "p"}) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.reply.code, peer.connections) == (Refused, 535, 3)


def test_a_server_that_wants_the_answer_of_plain_on_a_line_of_its_own_gets_it() -> None:
    def ask(dialogue: Dialogue) -> None:
        dialogue.command = b"AUTH PLAIN"  # as if the rest had not been sent
        dialogue.normal(dialogue)

    with Peer(at={"auth": ask}, users={"u": "p"}, mechanisms="PLAIN") as peer:
        SMTPConnection.open(plain(peer, username="u", password="p"), "client.test", PATIENT).quit()


def test_mechanisms_of_two_lines_are_put_together() -> None:
    with Peer(
        extensions=("AUTH GSSAPI PLAIN", "AUTH=LOGIN"),
        users={"u": "p"},
        mechanisms="NTLM",
        at={"auth": only("LOGIN", b"504 no\r\n")},
    ) as peer:
        SMTPConnection.open(plain(peer, username="u", password="p"), "client.test", PATIENT).quit()


def test_the_old_spelling_of_auth_is_understood() -> None:
    with Peer(extensions=("AUTH=LOGIN", "8BITMIME")) as peer, pytest.raises(CannotOpen):
        SMTPConnection.open(plain(peer, username="u", password="p"), "client.test", PATIENT)
    assert b"AUTH LOGIN" in peer.commands


@pytest.mark.parametrize("mechanisms", ["GSSAPI NTLM", ""])
def test_a_server_we_cannot_authenticate_with_is_refused(mechanisms: str) -> None:
    with Peer(users={"u": "p"}, mechanisms=mechanisms) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.phase) == (Refused, Phase.AUTH)


def test_the_password_is_not_sent_in_clear_when_tls_was_stripped(authority: Authority) -> None:
    for behaviours in ({}, {"starttls": b"454 no\r\n"}, {"tls": hang_up}):
        context = authority.server("peer.test") if behaviours else None
        with Peer(at=behaviours, users={"u": "p"}, tls=context) as peer:
            outcome = refusal(plain(peer, security="opportunistic", username="u", password="p"))
        assert (type(outcome), outcome.phase) == (Refused, Phase.AUTH)
        assert not any(command.startswith(b"AUTH") for command in peer.commands)


@pytest.mark.parametrize("code", [530, 534, 535, 538, 454, 432])
def test_a_refused_login_is_refused_whatever_its_code(code: int) -> None:
    with Peer(at={"auth": b"%d no\r\n" % code}, users={"u": "p"}) as peer:
        assert isinstance(refusal(plain(peer, username="u", password="p")), Refused)


def test_a_challenge_that_is_not_base64_defers() -> None:
    with Peer(at={"auth": b"334 !!!\r\n"}, users={"u": "p"}) as peer:
        assert isinstance(refusal(plain(peer, username="u", password="p")), Deferred)


def test_the_password_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Endpoint("h", password="secret"))


def test_an_opening_that_fails_once_succeeds_the_next_time() -> None:
    with Peer(at={"banner": in_turn(then_close(b"421 busy\r\n"), None)}) as peer:
        assert refusal(plain(peer)).reply.code == 421
        SMTPConnection.open(plain(peer), "client.test", PATIENT).quit()
