"""A transaction checks what it sends, and uses the extensions and the TLS that a server offers."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Delivered, Fenced, Phase, Unknown
from tests.smtp.authority import Authority
from tests.smtp.behaviours import reset, silent
from tests.smtp.clients import BIG, ONE, RAW, STEPWISE, Journal, connected, quick, send
from tests.smtp.drivers import opened, sent, with_each_driver_and_form
from tests.smtp.peers import EXTENSIONS, PATIENT, Behaviour, Peer, hang_up

pytestmark = with_each_driver_and_form


@pytest.mark.parametrize(
    ("extensions", "envelope", "enhanced"),
    [
        (("SIZE 10",), ONE, "5.3.4"),
        (("PIPELINING",), Envelope("a@a.test", ("b@b.test",), b"x: \xc3\xa4\r\n"), "5.6.3"),
        (("8BITMIME",), Envelope("\u00e4@a.test", ("b@b.test",), RAW, smtputf8=True), "5.6.7"),
        (("8BITMIME",), Envelope("a@a.test", ("b\u00e4@b.test",), RAW, smtputf8=True), "5.6.7"),
        ((), Envelope("a@a.test", ("b@b.test",), "From: \u00e4@a.test\r\n\r\nx\r\n".encode(), smtputf8=True), "5.6.7"),
        (EXTENSIONS, Envelope("a@a.test", ("b\u00e4@b.test",), RAW), "5.6.7"),
        (EXTENSIONS, Envelope("a@a.test>\r\nRCPT TO:<e@x", ("b@b.test",), RAW), "5.1.7"),
        (EXTENSIONS, Envelope("a@a.test", ("b@b>\r\nRCPT TO:<e@x",), RAW), "5.1.3"),
        (EXTENSIONS, Envelope("a@a.test", ("b@b.test",), b"x\n.\r\nMAIL FROM:<e@x>\r\n"), "5.6.0"),
        (EXTENSIONS, Envelope("a@a.test", ("b@b.test",), b"x" * 999 + b"\r\n"), "5.6.0"),
    ],
)
def test_what_cannot_be_sent_is_bounced_before_a_byte_is_written(
    extensions: tuple[str, ...], envelope: Envelope, enhanced: str
) -> None:
    with Peer(extensions=extensions) as peer, connected(peer) as connection:
        (outcome,) = sent(connection, envelope, Journal().before_dot, Journal().after_dot).values()
        assert isinstance(outcome, Bounced)
        assert (outcome.reply.code, outcome.reply.enhanced) == (0, enhanced)
        assert connection.usable
    assert [command.split()[0] for command in peer.commands] == [b"EHLO", b"QUIT"]


def test_a_bad_recipient_does_not_hold_up_the_good_one() -> None:
    with Peer() as peer:
        outcomes = send(peer, Envelope("", ("bad address", "good@b.test"), RAW))
    assert isinstance(outcomes["bad address"], Bounced)
    assert isinstance(outcomes["good@b.test"], Delivered)
    assert (peer.messages[0].mail_from, peer.messages[0].recipients) == ("", ["good@b.test"])


def test_the_extensions_used_are_those_needed_and_offered() -> None:
    with Peer() as peer:
        raw = b"Subject: \xc3\xa4\r\n\r\n"
        send(peer, Envelope("\u00e4@a.test", ("b\u00fc@b.test",), raw, smtputf8=True))
    assert "MAIL FROM:<\u00e4@a.test> SIZE=15 BODY=8BITMIME SMTPUTF8".encode() in peer.commands


INTERNATIONAL = ("ann@b.test", "\u00fcser@b.test", "bob@b.test")
HEADER = "From: a@a.test\r\nTo: ann@b.test, \u00fcser@b.test\r\nSubject: x\r\n\r\ny\r\n".encode()


@pytest.mark.parametrize("extensions", [STEPWISE, ()], ids=["offered", "not offered"])
def test_a_transaction_of_ascii_alone_does_not_ask_for_smtputf8(extensions: tuple[str, ...]) -> None:
    with Peer(extensions=extensions) as peer:
        assert isinstance(send(peer, replace(ONE, smtputf8=True))["to@b.test"], Delivered)
    assert b"SMTPUTF8" not in b"".join(peer.commands)
    assert peer.messages[0].raw == RAW


@pytest.mark.parametrize(
    ("raw", "header"),
    [(RAW, RAW), (HEADER, HEADER.replace("\u00fcser@b.test".encode(), b"=?utf-8?b?w7xzZXJAYi50ZXN0?= :;"))],
)
@pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME", "SIZE 10000"), ()], ids=["pipelined", "bare"])
def test_without_smtputf8_an_international_recipient_fails_alone(
    extensions: tuple[str, ...], raw: bytes, header: bytes
) -> None:
    with Peer(extensions=extensions) as peer:
        for _ in range(2):
            outcomes = send(peer, Envelope("a@a.test", INTERNATIONAL, raw, smtputf8=True))
            bounced = outcomes.pop("\u00fcser@b.test")
            assert isinstance(bounced, Bounced)
            assert (bounced.reply.enhanced, bounced.phase) == ("5.6.7", Phase.RCPT)
            assert {type(outcome) for outcome in outcomes.values()} == {Delivered}
    assert [message.recipients for message in peer.messages] == [["ann@b.test", "bob@b.test"]] * 2
    assert {message.raw for message in peer.messages} == {header}
    sizes = [command for command in peer.commands if b"SIZE=" in command]
    assert all(command.endswith(b"SIZE=%d" % len(header)) for command in sizes)


def test_with_smtputf8_all_go_as_they_are_in_one_transaction() -> None:
    with Peer() as peer:
        outcomes = send(peer, Envelope("a@a.test", INTERNATIONAL, HEADER, smtputf8=True))
    assert {type(outcome) for outcome in outcomes.values()} == {Delivered}
    assert [(message.recipients, message.raw) for message in peer.messages] == [(list(INTERNATIONAL), HEADER)]


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE 99999999999999999999999999", "SIZE abc"])
def test_an_odd_size_limit_is_no_limit(size: str) -> None:
    with Peer(extensions=(size,)) as peer:
        assert isinstance(send(peer)["to@b.test"], Delivered)


def test_dots_arrive_as_they_were_given() -> None:
    raw = b".\r\n..\r\na\r\n.b\r\n"
    with Peer() as peer:
        send(peer, Envelope("a@a.test", ("b@b.test",), raw))
    assert peer.messages[0].raw == b"..\r\n...\r\na\r\n..b\r\n"


@pytest.mark.parametrize("implicit", [True, False], ids=["tls", "starttls"])
def test_everything_works_under_tls_too(implicit: bool, tmp_path: Path) -> None:
    authority, journal = Authority(tmp_path), Journal()
    with Peer(tls=authority.server("127.0.0.1"), implicit=implicit, extensions=("PIPELINING",)) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "tls" if implicit else "starttls", ca_file=authority.ca_file)
        connection = opened(endpoint, "client.test", PATIENT)
        for envelope in (ONE, BIG, ONE):
            assert connection.alive()  # session tickets are waiting by now, which are not replies
            (outcome,) = sent(connection, envelope, journal.before_dot, journal.after_dot).values()
            assert isinstance(outcome, Delivered)
        assert [message.raw for message in peer.messages] == [RAW, BIG.raw, RAW]
        journal.say = False
        assert sent(connection, ONE, journal.before_dot, journal.after_dot) == {"to@b.test": Fenced(Phase.BODY)}
        assert len(peer.messages) == 3


@pytest.mark.parametrize("behaviour", [hang_up, reset, silent, b"junk\r\n"])
def test_a_reply_lost_under_tls_is_unknown_too(behaviour: Behaviour, tmp_path: Path) -> None:
    authority, journal = Authority(tmp_path), Journal()
    with Peer(at={"dot": behaviour}, tls=authority.server("127.0.0.1"), implicit=True) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "tls", ca_file=authority.ca_file)
        connection = opened(endpoint, "client.test", quick("dot"))
        (outcome,) = sent(connection, ONE, journal.before_dot, journal.after_dot).values()
    assert isinstance(outcome, Unknown)
    assert (len(peer.messages), journal.after) == (1, [(("to@b.test",), None)])


def test_the_commands_of_a_pipelined_envelope_and_of_single_steps_are_the_same() -> None:
    seen = []
    for extensions in (EXTENSIONS, STEPWISE):
        with Peer(extensions=extensions) as peer, connected(peer) as connection:
            for _ in range(3):
                sent(connection, ONE, Journal().before_dot, Journal().after_dot)
        seen.append(peer.commands)
    assert seen[0] == seen[1]
