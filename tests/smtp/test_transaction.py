"""One transaction: failures at every phase, with and without pipelining, and the rules of the dot."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, TooMany, Unknown
from mailbbgun.smtp.reply import Reply
from tests.smtp.authority import Authority
from tests.smtp.peers import (
    EXTENSIONS,
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
    late,
    reset,
    silent,
    then_close,
)
from tests.waiting import PATIENCE


def quick(phase: str) -> Timeouts:
    """Return timeouts that are short only at the phase under test, for a busy machine's sake."""
    return replace(PATIENT, **{phase: 0.1})


STEPWISE = tuple(word for word in EXTENSIONS if word != "PIPELINING")
RAW = b"Subject: hello\r\n\r\nworld\r\n"
ONE = Envelope("from@a.test", ("to@b.test",), RAW)
BIG = Envelope("from@a.test", ("to@b.test",), (b"y" * 76 + b"\r\n") * 130_000)

both_ways = pytest.mark.parametrize("extensions", [EXTENSIONS, STEPWISE], ids=["pipelined", "stepwise"])


@dataclass
class Journal:
    """The two functions around the dot, and the arguments they were called with."""

    say: bool = True
    before: list[tuple[str, ...]] = field(default_factory=list)
    after: list[tuple[tuple[str, ...], Reply | None]] = field(default_factory=list)

    def before_dot(self, accepted: tuple[str, ...]) -> bool:
        self.before.append(accepted)
        return self.say

    def after_dot(self, accepted: tuple[str, ...], reply: Reply | None) -> None:
        self.after.append((accepted, reply))


@contextmanager
def connected(peer: Peer, timeouts: Timeouts = PATIENT) -> Iterator[SMTPConnection]:
    connection = SMTPConnection.open(Endpoint("127.0.0.1", peer.port, "none"), "client.test", timeouts)
    yield connection
    connection.quit()


def send(
    peer: Peer,
    envelope: Envelope = ONE,
    timeouts: Timeouts = PATIENT,
    journal: Journal | None = None,
) -> dict[str, Outcome | TooMany]:
    journal = journal or Journal()
    with connected(peer, timeouts) as connection:
        return connection.send(envelope, journal.before_dot, journal.after_dot)


@both_ways
def test_a_message_arrives_as_it_was_given(extensions: tuple[str, ...]) -> None:
    journal = Journal()
    with Peer(extensions=extensions) as peer:
        outcomes = send(peer, journal=journal)
    assert outcomes == {"to@b.test": Delivered(Reply(250, "2.0.0", "queued"))}
    (message,) = peer.messages
    assert (message.mail_from, message.recipients, message.raw) == ("from@a.test", ["to@b.test"], RAW)
    assert journal.before == [("to@b.test",)]
    assert journal.after == [(("to@b.test",), Reply(250, "2.0.0", "queued"))]
    assert peer.commands[1] == b"MAIL FROM:<from@a.test> SIZE=%d" % len(RAW)


NOTHING_SENT = (Phase.MAIL, Phase.RCPT, Phase.DATA)
FAILURES: list[tuple[str, Behaviour, type, int]] = [
    ("4xx", b"451 4.3.0 later\r\n", Deferred, 451),
    ("421", then_close(b"421 4.3.2 closing\r\n"), Deferred, 421),
    ("5xx", b"554 5.7.1 no\r\n", Bounced, 554),
    ("530", b"530 5.7.0 authentication required\r\n", Refused, 530),
    ("garbage", b"\x00\x01\x02\r\n", Deferred, 0),
    ("silence", silent, Deferred, 0),
    ("half a line", half_a_line, Deferred, 0),
    ("a drip", drip, Deferred, 0),
    ("endless lines", endless, Deferred, 0),
    ("an endless line", endless_line, Deferred, 0),
    ("closes", hang_up, Deferred, 0),
    ("resets", reset, Deferred, 0),
    ("a reply too late", late(0.25, b"250 ok\r\n"), Deferred, 0),
]
failing = pytest.mark.parametrize(("name", "behaviour", "kind", "code"), FAILURES, ids=[row[0] for row in FAILURES])


@both_ways
@pytest.mark.parametrize("phase", NOTHING_SENT)
@failing
def test_a_failure_before_the_message_has_its_phase_and_sends_nothing(
    name: str, behaviour: Behaviour, kind: type, code: int, phase: Phase, extensions: tuple[str, ...]
) -> None:
    journal = Journal()
    with Peer(at={phase: behaviour}, extensions=extensions) as peer:
        outcome = send(peer, timeouts=quick(phase), journal=journal)["to@b.test"]
    assert (type(outcome), outcome.phase, outcome.reply.code) == (kind, phase, code)
    assert (journal.before, journal.after) == ([], [])
    assert not [message for message in peer.messages if message.raw]


@failing
def test_a_failure_after_the_dot_is_a_verdict_or_unknown(
    name: str, behaviour: Behaviour, kind: type, code: int
) -> None:
    journal = Journal()
    with Peer(at={"dot": behaviour}) as peer:
        outcome = send(peer, timeouts=quick("dot"), journal=journal)["to@b.test"]
    expected = kind if code else Unknown
    assert (type(outcome), outcome.phase, outcome.reply.code) == (expected, Phase.DOT, code)
    assert journal.before == [("to@b.test",)]
    assert journal.after == [(("to@b.test",), outcome.reply if code else None)]


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        (b"552 5.3.4 too big\r\n", Bounced),
        (b"421 4.4.2 slow\r\n", Deferred),
        (b"451 4.3.0 disk\r\n", Deferred),
        (b"250 2.0.0 so soon\r\n", Deferred),
        (b"junk\r\n", Deferred),
    ],
)
def test_a_verdict_before_the_dot_is_heard_and_the_dot_not_sent(verdict: bytes, kind: type) -> None:
    journal = Journal()
    with Peer(at={"data": b"354 go on\r\n" + verdict}) as peer, connected(peer) as connection:
        outcome = connection.send(ONE, journal.before_dot, journal.after_dot)["to@b.test"]
        assert not connection.usable
    assert isinstance(outcome, kind)
    assert outcome.phase is Phase.BODY
    assert (journal.before, peer.messages) == ([], [])


@pytest.mark.parametrize("behaviour", [hang_up, reset, then_close(b"552 5.3.4 too big\r\n"), b"junk\r\n"])
def test_a_server_that_leaves_during_the_message_gets_no_dot(behaviour: Behaviour) -> None:
    def body(dialogue: Dialogue) -> None:
        dialogue.socket.recv(1)
        dialogue.do(behaviour)
        raise Gone

    journal = Journal()
    with Peer(at={"body": body}, extensions=("PIPELINING",)) as peer:
        outcome = send(peer, BIG, journal=journal)["to@b.test"]
    assert isinstance(outcome, Deferred | Bounced)
    assert outcome.phase is Phase.BODY
    assert isinstance(outcome, Deferred) or outcome.reply.code == 552
    assert (journal.before, peer.messages) == ([], [])


def test_a_peer_that_never_reads_is_deferred_at_the_body() -> None:
    def deaf(dialogue: Dialogue) -> None:
        stop.wait(PATIENCE)
        raise Gone

    stop = threading.Event()
    timeouts = replace(PATIENT, body=0.3, min_rate=1e9)
    with Peer(at={"body": deaf}, extensions=()) as peer:
        outcome = send(peer, BIG, timeouts)["to@b.test"]
        stop.set()
    assert isinstance(outcome, Deferred)
    assert outcome.phase is Phase.BODY


# -- the rules of the dot


def test_before_dot_saying_no_closes_without_the_dot() -> None:
    journal = Journal(say=False)
    with Peer() as peer, connected(peer) as connection:
        outcomes = connection.send(ONE, journal.before_dot, journal.after_dot)
        assert not connection.usable
    assert outcomes == {"to@b.test": Fenced(Phase.BODY)}
    assert (peer.messages, journal.after) == ([], [])


def test_before_dot_is_asked_when_all_but_the_dot_is_with_the_server() -> None:
    seen: list[bytes] = []
    dialogues: list[Dialogue] = []

    def body(dialogue: Dialogue) -> None:
        dialogues.append(dialogue)
        while not dialogue.buffer.endswith(b"world\r\n"):
            dialogue._fill()
        arrived.set()

    def before_dot(_: tuple[str, ...]) -> bool:
        assert arrived.wait(PATIENCE)
        seen.append(dialogues[0].buffer)
        return True

    arrived = threading.Event()
    with Peer(at={"body": body}) as peer, connected(peer) as connection:
        connection.send(ONE, before_dot, lambda *_: None)
    assert seen == [RAW]
    assert len(peer.messages) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_functions_raise_passes_through_and_ends_the_connection(when: str) -> None:
    def fail(*_: object) -> bool:
        raise KeyError("lease")

    journal = Journal()
    with Peer() as peer, connected(peer) as connection:
        before, after = (fail, journal.after_dot) if when == "before" else (journal.before_dot, fail)
        with pytest.raises(KeyError, match="lease"):
            connection.send(ONE, before, after)
        assert not connection.usable
    assert len(peer.messages) == (when == "after")


def test_a_dot_that_never_left_is_deferred_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    with Peer() as peer, connected(peer) as connection:

        def shut(accepted: tuple[str, ...]) -> bool:
            connection._session.wire.close()  # the next send() fails, as when the network is gone
            return journal.before_dot(accepted)

        outcome = connection.send(ONE, shut, journal.after_dot)["to@b.test"]
    assert isinstance(outcome, Deferred)
    assert outcome.phase is Phase.DOT
    assert journal.after == [(("to@b.test",), outcome.reply)]
    assert peer.messages == []


# -- many recipients


@both_ways
def test_each_of_a_hundred_recipients_gets_its_own_answer(extensions: tuple[str, ...]) -> None:
    def answer(address: str) -> bytes:
        number = int(address.split("@")[0][1:])
        return b"450 4.2.1 busy\r\n" if number < 10 else b"550 5.1.1 no\r\n" if number < 20 else b"250 2.1.5 ok\r\n"

    recipients = tuple(f"r{number}@b.test" for number in range(100))
    journal = Journal()
    with Peer(rcpt=answer, extensions=extensions) as peer:
        outcomes = send(peer, Envelope("a@a.test", recipients, RAW), journal=journal)
    kinds = [type(outcomes[recipient]) for recipient in recipients]
    assert kinds == [Deferred] * 10 + [Bounced] * 10 + [Delivered] * 80
    assert journal.before == [recipients[20:]]
    (message,) = peer.messages
    assert tuple(message.recipients) == recipients[20:]


@both_ways
def test_a_server_gone_between_rcpt_and_data_keeps_its_refusals(extensions: tuple[str, ...]) -> None:
    def answer(address: str) -> bytes:
        return b"550 5.1.1 no\r\n" if address.startswith("bad") else b"250 ok\r\n"

    with Peer(at={"data": hang_up}, rcpt=answer, extensions=extensions) as peer:
        outcomes = send(peer, Envelope("a@a.test", ("good@b.test", "bad@b.test"), RAW))
    assert [type(outcome) for outcome in outcomes.values()] == [Bounced, Deferred]


def test_more_recipients_than_one_group_go_out_in_several_writes() -> None:
    recipients = tuple(f"r{number}@b.test" for number in range(350))
    with Peer() as peer:
        outcomes = send(peer, Envelope("a@a.test", recipients, RAW))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes.values())
    assert tuple(peer.messages[0].recipients) == recipients


def test_a_refused_sender_stops_the_groups_that_follow() -> None:
    recipients = tuple(f"r{number}@b.test" for number in range(350))
    with Peer(at={"mail": b"550 5.1.8 no\r\n"}) as peer, connected(peer) as connection:
        outcomes = connection.send(Envelope("a@a.test", recipients, RAW), Journal().before_dot, Journal().after_dot)
        assert {type(outcome) for outcome in outcomes.values()} == {Bounced}
        assert connection.usable
    assert len(peer.commands) < 110


def test_a_recipient_given_twice_is_sent_once() -> None:
    with Peer() as peer:
        assert len(send(peer, Envelope("a@a.test", ("b@b.test", "b@b.test"), RAW))) == 1
    assert peer.messages[0].recipients == ["b@b.test"]


@both_ways
@pytest.mark.parametrize("phase", ["mail", "rcpt"])
def test_without_a_recipient_no_message_is_sent_and_the_session_lives(phase: str, extensions: tuple[str, ...]) -> None:
    journal = Journal()
    answers = {phase: b"550 5.7.1 no\r\n"}
    with Peer(at=answers, extensions=extensions) as peer, connected(peer) as connection:
        connection.send(ONE, journal.before_dot, journal.after_dot)
        assert connection.usable
        answers.clear()
        outcomes = connection.send(ONE, journal.before_dot, journal.after_dot)
        assert isinstance(outcomes["to@b.test"], Delivered)
    assert (b"DATA" in peer.commands[: peer.commands.index(b"RSET")]) == ("PIPELINING" in extensions)
    assert len(peer.messages) == 1


def test_a_354_without_any_recipient_is_ended_by_a_lone_dot() -> None:
    def take_it_all_the_same(dialogue: Dialogue) -> None:
        dialogue.say(b"354 go on\r\n")
        dialogue.take_message()

    journal = Journal()
    answers: dict[str, Behaviour] = {"rcpt": b"550 5.1.1 no\r\n", "data": take_it_all_the_same, "dot": b"554 none\r\n"}
    with Peer(at=answers) as peer, connected(peer) as connection:
        outcome = connection.send(ONE, journal.before_dot, journal.after_dot)["to@b.test"]
        assert isinstance(outcome, Bounced)
        assert outcome.phase is Phase.RCPT
        assert connection.usable
    assert [message.raw for message in peer.messages] == [b""]
    assert journal.before == []


def test_too_many_recipients_are_marked_for_a_further_transaction() -> None:
    taken: list[str] = []

    def answer(address: str) -> bytes:
        taken.append(address)
        return b"250 ok\r\n" if len(taken) <= 2 else b"452 4.5.3 too many recipients\r\n"

    with Peer(rcpt=answer) as peer:
        outcomes = send(peer, Envelope("a@a.test", ("a@b.test", "b@b.test", "c@b.test"), RAW))
    assert [type(outcome) for outcome in outcomes.values()] == [TooMany, Delivered, Delivered]


# -- what is checked before anything is sent


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
        (outcome,) = connection.send(envelope, Journal().before_dot, Journal().after_dot).values()
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
        connection = SMTPConnection.open(endpoint, "client.test", PATIENT)
        for envelope in (ONE, BIG, ONE):
            assert connection.alive()  # session tickets are waiting by now, which are not replies
            (outcome,) = connection.send(envelope, journal.before_dot, journal.after_dot).values()
            assert isinstance(outcome, Delivered)
        assert [message.raw for message in peer.messages] == [RAW, BIG.raw, RAW]
        journal.say = False
        assert connection.send(ONE, journal.before_dot, journal.after_dot) == {"to@b.test": Fenced(Phase.BODY)}
        assert len(peer.messages) == 3


@pytest.mark.parametrize("behaviour", [hang_up, reset, silent, b"junk\r\n"])
def test_a_reply_lost_under_tls_is_unknown_too(behaviour: Behaviour, tmp_path: Path) -> None:
    authority, journal = Authority(tmp_path), Journal()
    with Peer(at={"dot": behaviour}, tls=authority.server("127.0.0.1"), implicit=True) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "tls", ca_file=authority.ca_file)
        connection = SMTPConnection.open(endpoint, "client.test", quick("dot"))
        (outcome,) = connection.send(ONE, journal.before_dot, journal.after_dot).values()
    assert isinstance(outcome, Unknown)
    assert (len(peer.messages), journal.after) == (1, [(("to@b.test",), None)])


def test_the_commands_of_a_pipelined_envelope_and_of_single_steps_are_the_same() -> None:
    seen = []
    for extensions in (EXTENSIONS, STEPWISE):
        with Peer(extensions=extensions) as peer, connected(peer) as connection:
            for _ in range(3):
                connection.send(ONE, Journal().before_dot, Journal().after_dot)
        seen.append(peer.commands)
    assert seen[0] == seen[1]
