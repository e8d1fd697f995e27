"""A probe tries a server step by step; it shows each step and certificate, and no password."""

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mailbbgun.relays.probe import probe
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Refused, Unknown
from tests.relays.probing import IMPLICIT, IN_CLEAR, MAIL, PASSWORD, SENT, UPGRADED, names, tried
from tests.smtp.authority import Authority
from tests.smtp.behaviours import drip, endless, endless_line, half_a_line, late, only, reset, silent
from tests.smtp.clients import plain
from tests.smtp.peers import PATIENT, Behaviour, Dialogue, Gone, Peer, hang_up
from tests.waiting import PATIENCE, bounded, growing, pause

# -- what goes well


@pytest.mark.parametrize("mail", [None, MAIL])
@pytest.mark.parametrize(("security", "opening"), [("none", IN_CLEAR), ("starttls", UPGRADED), ("tls", IMPLICIT)])
def test_every_step_is_told_in_its_order(
    security: str, opening: list[str], mail: Envelope | None, authority: Authority
) -> None:
    with Peer(tls=authority.server("peer.test"), implicit=security == "tls", users={"u": PASSWORD}) as peer:
        endpoint = plain(peer, security=security, ca_file=authority.ca_file, username="u", password=PASSWORD)
        told = tried(endpoint, mail)
    assert names(told) == [*opening, "auth", *(SENT if mail else [])]
    assert told.ok
    assert all(step.ok for step in told.steps)
    assert len(peer.messages) == (1 if mail else 0)
    assert peer.connections == 1
    assert peer.commands[-1] == b"QUIT"


def test_the_words_of_the_server_are_told(authority: Authority) -> None:
    with Peer(users={"u": "secret word"}, at={"banner": b"220-peer.test\r\n220 at your\x07 service\r\n"}) as peer:
        told = tried(plain(peer, username="u", password="secret word"), MAIL)
    said = {step.name: str(step.reply) for step in told.steps}
    assert said["resolve"] == said["connect"] == "127.0.0.1"
    assert said["banner"] == "220 peer.test at your\ufffd service"
    assert said["auth"] == "235 2.7.0 welcome"
    assert said["dot"] == "250 2.0.0 queued"


def test_the_time_of_a_step_is_its_own() -> None:
    with Peer(at={"banner": late(0.2, b"220 hello\r\n"), "rcpt": late(0.1, b"250 2.1.5 ok\r\n")}) as peer:
        began = time.monotonic()
        told = tried(plain(peer), MAIL)
        whole = (time.monotonic() - began) * 1000
    milliseconds = {step.name: step.milliseconds for step in told.steps}
    assert milliseconds["banner"] >= 190
    assert milliseconds["rcpt"] >= 90
    assert sum(milliseconds.values()) <= whole + 1  # no time counts twice: one clock in one run


def test_the_line_and_its_certificate_are_described(authority: Authority) -> None:
    with Peer(tls=authority.server("peer.test", "127.0.0.1"), implicit=True) as peer:
        told = tried(plain(peer, security="tls", ca_file=authority.ca_file))
    tls = told.steps[2].tls
    assert tls is not None
    assert tls.version in ("TLSv1.2", "TLSv1.3")
    assert tls.cipher
    assert tls.certificate is not None
    assert (tls.certificate.subject, tls.certificate.issuer) == ("CN=peer.test", "CN=test authority")
    assert tls.certificate.names == ("peer.test", "127.0.0.1")
    assert tls.certificate.not_after.endswith("Z")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_authentication_is_one_step_whatever_its_mechanism(mechanism: str) -> None:
    with Peer(users={"u": PASSWORD}, mechanisms=mechanism) as peer:
        assert names(tried(plain(peer, username="u", password=PASSWORD))) == [*IN_CLEAR, "auth"]
        told = tried(plain(peer, username="u", password="another one"))
    assert names(told) == [*IN_CLEAR, "auth"]
    assert (told.steps[-1].ok, str(told.steps[-1].reply)) == (False, "535 5.7.8 wrong")
    assert isinstance(told.verdict, Refused)


def test_each_mechanism_that_is_tried_is_a_step_that_names_it() -> None:
    with Peer(
        users={"u": PASSWORD}, at={"auth": only("LOGIN", b"504 5.5.4 not that\r\n")}, mechanisms="PLAIN LOGIN XOAUTH2"
    ) as peer:
        told = tried(plain(peer, username="u", password=PASSWORD), MAIL)
        assert told.ok
        steps = [
            (step.name, step.mechanism, step.ok, step.reply.code)
            for step in told.steps
            if step.reply and step.name == "auth"
        ]
        assert steps == [("auth", "PLAIN", False, 504), ("auth", "LOGIN", True, 235)]
        wrong = tried(plain(peer, username="u", password="another one"))
        assert isinstance(wrong.verdict, Refused)
        assert [(step.mechanism, step.ok) for step in wrong.steps if step.name == "auth"] == [
            ("PLAIN", False),
            ("LOGIN", False),
        ]
        assert str(wrong.verdict.reply) == "535 5.7.8 wrong"  # says more than that PLAIN is not known


def test_a_server_without_ehlo_and_one_whose_optional_tls_is_broken_are_well_all_the_same(authority: Authority) -> None:
    with Peer(at={"ehlo": b"502 5.5.1 what\r\n"}) as peer:
        told = tried(plain(peer))
    assert [(step.name, step.ok) for step in told.steps][3:] == [("ehlo", False), ("ehlo", True)]
    assert told.ok
    with Peer(at={"tls": hang_up}, tls=authority.server("peer.test")) as peer:
        told = tried(plain(peer, security="opportunistic"))
    assert names(told) == [*IN_CLEAR, "starttls", "tls", "connect", "banner", "ehlo"]
    assert [step.name for step in told.steps if not step.ok] == ["tls"]
    assert told.ok


# -- what fails

FAILURES: list[tuple[str, Behaviour]] = [
    ("4xx", b"451 4.3.0 later\r\n"),
    ("421", b"421 4.3.2 closing\r\n"),
    ("5xx", b"554 5.7.1 no\r\n"),
    ("3xx", b"354 go on\r\n"),
    ("garbage", b"\x00\x01 SSH-2.0\r\n"),
    ("silence", silent),
    ("half a line", half_a_line),
    ("a drip", drip),
    ("endless lines", endless),
    ("an endless line", endless_line),
    ("closes", hang_up),
    ("resets", reset),
]
PHASES = ["banner", "ehlo", "starttls", "tls", "auth", "mail", "rcpt", "data", "dot"]
CASES = [(phase, behaviour) for phase in PHASES for name, behaviour in FAILURES if (phase, name) != ("data", "3xx")]
IDS = [f"{name} at {phase}" for phase in PHASES for name, _ in FAILURES if (phase, name) != ("data", "3xx")]


@pytest.mark.parametrize(("phase", "behaviour"), CASES, ids=IDS)
def test_a_failing_step_is_the_last_one_told_and_the_verdict_says_why(
    phase: str, behaviour: bytes, authority: Authority
) -> None:
    def handshake(dialogue: Dialogue) -> None:
        dialogue.socket.recv(1)
        dialogue.do(behaviour)
        raise Gone

    timeouts = replace(PATIENT, **{"tls" if phase == "starttls" else phase: 0.15, "quit": 0.1})
    at = {phase: handshake if phase == "tls" else behaviour}
    with Peer(at=at, tls=authority.server("peer.test"), users={"u": "p\u00e4ss"}, mechanisms="PLAIN") as peer:
        endpoint = plain(peer, security="starttls", ca_file=authority.ca_file, username="u", password="p\u00e4ss")
        told = tried(endpoint, MAIL, timeouts)
    assert told.verdict is not None
    failed = told.steps[-1]
    assert (failed.name, failed.ok) == (phase, False)
    assert (told.verdict.phase, told.verdict.reply) == (phase, failed.reply)
    assert all(step.ok for step in told.steps[:-1])
    if phase in ("banner", "ehlo", "starttls", "tls", "auth"):
        assert isinstance(told.verdict, Deferred | Refused)
        assert not peer.messages
    if phase == "dot" and failed.reply is not None and not failed.reply.code:
        assert isinstance(told.verdict, Unknown)


def test_a_refused_recipient_is_bounced_and_nothing_more_is_sent() -> None:
    with Peer(rcpt=lambda address: b"550 5.1.1 no such user\r\n") as peer:
        told = tried(plain(peer), MAIL)
    assert isinstance(told.verdict, Bounced)
    assert names(told) == [*IN_CLEAR, "mail", "rcpt"]
    assert b"DATA" not in peer.commands
    assert peer.commands[-1] == b"QUIT"


def test_a_mail_that_may_not_be_written_is_a_failed_step_of_our_own() -> None:
    with Peer() as peer:
        told = tried(plain(peer), replace(MAIL, recipients=("a b@peer.test",)))
    assert [(step.name, step.ok) for step in told.steps][-1] == ("rcpt", False)
    assert isinstance(told.verdict, Bounced)
    assert not any(command.startswith(b"MAIL") for command in peer.commands)


def test_nobody_listening_and_a_name_that_does_not_resolve_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = tried(Endpoint("127.0.0.1", port, "none"))
    assert [(step.name, step.ok) for step in told.steps] == [("resolve", True), ("connect", False)]
    told = tried(Endpoint("no\u00a0such..name", 25, "none"))
    assert [(step.name, step.ok) for step in told.steps] == [("resolve", False)]
    assert isinstance(told.verdict, Deferred)


def test_what_we_refuse_ourselves_is_told_as_the_step_it_prevents(authority: Authority, tmp_path: Path) -> None:
    with Peer(users={"u": "secret word"}) as peer:
        stripped = tried(plain(peer, security="starttls", username="u", password="secret word"))
        clear = tried(plain(peer, security="opportunistic", username="u", password="secret word"))
        unread = tried(plain(peer, security="tls", ca_file=str(tmp_path / "missing")))
    assert [(told.steps[-1].name, told.steps[-1].ok) for told in (stripped, clear, unread)] == [
        ("starttls", False),
        ("auth", False),
        ("tls", False),
    ]
    assert all(isinstance(told.verdict, Refused) for told in (stripped, clear, unread))


# -- time


SLOW: list[tuple[str, Behaviour]] = [
    ("banner", drip),
    ("ehlo", silent),
    ("auth", endless_line),
    ("rcpt", half_a_line),
    ("dot", silent),
]


@pytest.mark.parametrize(("phase", "behaviour"), SLOW, ids=[row[0] for row in SLOW])
def test_the_total_limit_ends_a_probe_at_any_step(phase: str, behaviour: bytes) -> None:
    with Peer(at={phase: behaviour}, users={"u": "secret word"}) as peer:
        for limit in growing(0.3):
            told = tried(plain(peer, username="u", password="secret word"), MAIL, PATIENT, limit=limit)
            assert not told.ok
            if told.steps[-1].name == phase:
                break
    assert (told.steps[-1].name, told.steps[-1].ok) == (phase, False)


def test_the_limit_is_for_all_steps_together_and_for_the_handshake_and_the_second_look(authority: Authority) -> None:
    def slowly(dialogue: Dialogue) -> None:
        pause(0.2)
        dialogue.do(dialogue.normal)

    def second_time_silent(dialogue: Dialogue) -> None:
        if peer.connections % 2 == 0:
            silent(dialogue)

    with Peer(
        at=dict.fromkeys(("banner", "ehlo", "auth", "mail", "rcpt", "data", "dot"), slowly), users={"u": "secret word"}
    ) as peer:
        told = tried(plain(peer, username="u", password="secret word"), MAIL, limit=0.5)
        assert not told.ok  # each step alone is in time
    with Peer(tls=authority.server("other.test"), implicit=True, at={"tls": second_time_silent}) as peer:
        told = tried(plain(peer, security="tls", ca_file=authority.ca_file), limit=0.5)
        assert told.steps[-1].name == "tls"


def test_a_resolver_that_does_not_answer_is_waited_for_no_longer_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(2 * PATIENCE) and [])
    with bounded("a resolver that does not answer"):
        told = tried(Endpoint("slow.test", 25, "none"), limit=0.2)
    assert not answer.is_set()
    answer.set()
    assert [(step.name, step.ok) for step in told.steps] == [("resolve", False)]


def test_an_impossible_name_to_greet_with_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="EHLO"):
        probe(Endpoint("127.0.0.1", 1, addresses=("127.0.0.1",)), "a\r\nMAIL", PATIENT)
