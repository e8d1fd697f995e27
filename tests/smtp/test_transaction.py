"""One transaction: failures at each phase, with and without pipelining; the rules of the dot."""

import threading
from dataclasses import replace

import pytest

from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Phase, Refused, TooMany, Unknown
from mailbbgun.smtp.reply import Reply
from tests.smtp.behaviours import drip, endless, endless_line, half_a_line, late, reset, silent, then_close
from tests.smtp.clients import BIG, ONE, RAW, Journal, both_ways, connected, quick, send
from tests.smtp.drivers import sent, with_each_driver_and_form
from tests.smtp.peers import PATIENT, Behaviour, Dialogue, Gone, Peer, hang_up
from tests.waiting import PATIENCE

pytestmark = with_each_driver_and_form


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
        outcome = sent(connection, ONE, journal.before_dot, journal.after_dot)["to@b.test"]
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


@pytest.mark.parametrize("min_rate", [1e9, 1.0], ids=["the whole", "one block"])
def test_a_peer_that_never_reads_is_deferred_at_the_body(min_rate: float) -> None:
    def deaf(dialogue: Dialogue) -> None:
        stop.wait(PATIENCE)
        raise Gone

    stop = threading.Event()
    timeouts = replace(PATIENT, body=0.3, min_rate=min_rate)
    with Peer(at={"body": deaf}, extensions=()) as peer:
        outcome = send(peer, BIG, timeouts)["to@b.test"]
        stop.set()
    assert isinstance(outcome, Deferred)
    assert outcome.phase is Phase.BODY


# -- the rules of the dot


def test_before_dot_saying_no_closes_without_the_dot() -> None:
    journal = Journal(say=False)
    with Peer() as peer, connected(peer) as connection:
        outcomes = sent(connection, ONE, journal.before_dot, journal.after_dot)
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
        sent(connection, ONE, before_dot, lambda *_: None)
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
            sent(connection, ONE, before, after)
        assert not connection.usable
    assert len(peer.messages) == (when == "after")


def test_a_dot_that_never_left_is_deferred_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    with Peer() as peer, connected(peer) as connection:

        def shut(accepted: tuple[str, ...]) -> bool:
            connection._session.wire.close()  # the next send() fails, as when the network is gone
            return journal.before_dot(accepted)

        outcome = sent(connection, ONE, shut, journal.after_dot)["to@b.test"]
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
        outcomes = sent(connection, Envelope("a@a.test", recipients, RAW), Journal().before_dot, Journal().after_dot)
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
        sent(connection, ONE, journal.before_dot, journal.after_dot)
        assert connection.usable
        answers.clear()
        outcomes = sent(connection, ONE, journal.before_dot, journal.after_dot)
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
        outcome = sent(connection, ONE, journal.before_dot, journal.after_dot)["to@b.test"]
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
