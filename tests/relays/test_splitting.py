"""A relay splits recipients into transactions, and replaces a connection that carried enough."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from mailbbgun.relays.relay import SmartHost
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import (
    Bounced,
    Deferred,
    Delivered,
    Fenced,
    Unknown,
)
from tests.relays.relaying import ONE, RAW, Calls, attempt, kinds, pool, smart_host
from tests.smtp.behaviours import in_turn, then_close
from tests.smtp.drivers import with_each_form
from tests.smtp.peers import Behaviour, Dialogue, Peer, hang_up

pytestmark = with_each_form


def nothing(dialogue: object) -> None:
    """Do what the peer does anyway."""
    del dialogue


def at_most(limit: int, answer: Behaviour = b"452 4.5.3 too many recipients\r\n") -> Behaviour:
    def rcpt(dialogue: object) -> None:
        if len(dialogue.recipients) < limit:
            dialogue.normal(dialogue)
        else:
            dialogue.do(answer)

    return rcpt


def people(count: int) -> tuple[str, ...]:
    return tuple(f"r{number}@b.test" for number in range(count))


def crowded(limit: int, answer: bytes, phase: str = "dot") -> dict[str, Behaviour]:
    """Return a behaviour that refuses more recipients than ``limit``, at the end of a phase."""

    def behave(dialogue: Dialogue) -> None:
        count = len(dialogue.peer.messages[-1].recipients) if phase == "dot" else len(dialogue.recipients)
        if count > limit:
            dialogue.say(answer)
        else:
            dialogue.do(dialogue.normal)

    return {phase: behave}


SES = b"554 Transaction failed: Expected something else. Recipient count exceeds 50\r\n"


@pytest.mark.parametrize("phase", ["dot", "data"])
@pytest.mark.parametrize(
    ("limit", "answer", "sizes"),
    [
        (50, SES, [50, 10]),
        (50, b"554 5.7.1 too many recipients\r\n", [30, 30]),
        (50, b"452 4.5.3 too many recipients\r\n", [30, 30]),
        (10, b"550 maximum number of recipients exceeded\r\n", [7] * 8 + [4]),
        (1, b"554 Zu viele Empf\xc3\xa4nger\r\n", [1] * 60),
    ],
)
def test_a_message_that_was_refused_for_its_many_recipients_goes_to_fewer_at_once(
    phase: str, limit: int, answer: bytes, sizes: list[int]
) -> None:
    calls = Calls()
    with Peer(at=crowded(limit, answer, phase)) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", people(60), RAW), calls)
        assert set(kinds(outcomes)) == {Delivered}
        taken = [message.recipients for message in peer.messages if len(message.recipients) <= limit]
        assert [len(recipients) for recipients in taken] == sizes
        assert sorted(itertools.chain(*taken)) == sorted(people(60))
        assert len(calls.before) == len(calls.after) == len(peer.messages)
        # The next message is split from the start.
        before = len(peer.messages)
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(60), RAW)))) == {Delivered}
        assert [len(message.recipients) for message in peer.messages[before:]] == sizes


def test_too_many_at_mail_is_split_too_and_a_421_that_says_so() -> None:
    refused = b"452 4.5.3 too many recipients\r\n"
    with Peer(at={"mail": in_turn(refused, refused, None)}) as peer, smart_host(peer) as relay:
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(8), RAW)))) == {Delivered}
        assert [len(message.recipients) for message in peer.messages] == [2, 2, 2, 2]
    for extensions in (("PIPELINING",), ()):
        at = {"rcpt": at_most(4, then_close(b"421 4.5.3 too many recipients\r\n"))}
        with Peer(at=at, extensions=extensions) as peer, smart_host(peer) as relay:
            assert set(kinds(attempt(relay, Envelope("a@a.test", people(8), RAW)))) == {Delivered}
            assert sorted(itertools.chain(*(message.recipients for message in peer.messages))) == list(people(8))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"554 5.5.3 too many recipients\r\n", Bounced), (b"452 4.5.3 too many recipients\r\n", Deferred)],
)
def test_a_server_that_finds_one_recipient_too_many_is_not_asked_for_each(answer: bytes, kind: type) -> None:
    with Peer(at={"dot": answer}) as peer, smart_host(peer) as relay:
        assert kinds(attempt(relay, Envelope("a@a.test", people(60), RAW))) == [kind] * 60
        assert len(peer.messages) <= 8
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(60), RAW)))) == {kind}
        assert len(peer.messages[-1].recipients) == 1


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
def test_a_server_that_offers_smtputf8_and_cannot_hand_it_on_gets_the_others_without(phase: str) -> None:
    raw = "From: a@a.test\r\nTo: ann@b.test, \u00fcser@b.test\r\n\r\ny\r\n".encode()

    def refuse(dialogue: Dialogue) -> None:
        international = b"SMTPUTF8" in next(
            command for command in reversed(peer.commands) if command.startswith(b"MAIL")
        )
        dialogue.do(b"553 5.6.7 SMTPUTF8 is not supported there\r\n" if international else dialogue.normal)

    envelope = Envelope("a@a.test", ("ann@b.test", "\u00fcser@b.test", "bob@b.test"), raw, True)
    with Peer(at={phase: refuse}) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, envelope)
        assert kinds(outcomes) == [Delivered, Bounced, Delivered]
        assert outcomes["\u00fcser@b.test"].reply.enhanced == "5.6.7"
        assert (peer.messages[-1].recipients, peer.messages[-1].raw.isascii()) == (["ann@b.test", "bob@b.test"], True)


@pytest.mark.parametrize("phase", ["mail", "dot"])
def test_a_sender_that_needs_smtputf8_bounces_with_all_of_them(phase: str) -> None:
    raw = "From: \u00e4@a.test\r\n\r\ny\r\n".encode()
    for sender in ("\u00e4@a.test", "bounces@a.test"):
        with Peer(at={phase: b"553 5.6.7 no\r\n"}) as peer, smart_host(peer) as relay:
            assert kinds(attempt(relay, Envelope(sender, ("ann@b.test",), raw, True))) == [Bounced]
            assert len([command for command in peer.commands if command.startswith(b"MAIL")]) == 1


@pytest.mark.parametrize("most", [1, 2, None], ids=["one-at-once", "two-at-once", "452-after-one"])
@pytest.mark.parametrize(
    "extensions", [("PIPELINING", "8BITMIME", "SMTPUTF8"), ("8BITMIME", "SMTPUTF8")], ids=["pipelined", "stepwise"]
)
def test_a_recipient_refused_with_smtputf8_costs_later_ones_nothing(
    most: int | None, extensions: tuple[str, ...]
) -> None:
    raw = "From: a@a.test\r\nTo: \u00fc@z.test\r\n\r\ny\r\n".encode()

    def rcpt(address: str) -> bytes:
        behind = len(peer.commands) - max(n for n, command in enumerate(peer.commands) if command.startswith(b"MAIL"))
        if address.startswith("old") and b"SMTPUTF8" in peer.commands[-behind]:
            return b"553 5.6.7 that mailbox cannot take SMTPUTF8\r\n"
        return b"452 4.5.3 too many recipients\r\n" if most is None and behind > 2 else b"250 ok\r\n"

    recipients = ("old@y.test", "\u00fc@z.test", "ann@z.test", "old2@y.test", "\u00e4@z.test")
    with Peer(rcpt=rcpt, extensions=extensions) as peer, pool() as connections:
        relay = SmartHost(Endpoint("127.0.0.1", peer.port, "none"), connections, most)
        outcomes = attempt(relay, Envelope("a@a.test", recipients, raw, True))
    assert set(kinds(outcomes)) == {Delivered}
    assert tuple(outcomes) == recipients
    assert sorted(itertools.chain(*(message.recipients for message in peer.messages))) == sorted(recipients)
    for message in peer.messages:
        without = {address.startswith("old") for address in message.recipients}
        assert without == {message.raw.isascii()}  # each recipient gets its version; no transaction mixes them


def test_a_recipient_refused_without_smtputf8_too_bounces_after_that() -> None:
    raw = "From: a@a.test\r\nTo: \u00fc@z.test\r\n\r\ny\r\n".encode()

    def rcpt(address: str) -> bytes:
        return b"553 5.6.7 no\r\n" if address.startswith("old") else b"250 ok\r\n"

    with Peer(rcpt=rcpt) as peer, pool() as connections:
        relay = SmartHost(Endpoint("127.0.0.1", peer.port, "none"), connections, 1)
        assert kinds(attempt(relay, Envelope("a@a.test", ("old@y.test", "\u00fc@z.test"), raw, True))) == [
            Bounced,
            Delivered,
        ]
        assert sum(command.startswith(b"RCPT TO:<old@y.test>") for command in peer.commands) == 2


def test_a_recipient_refused_while_a_later_one_is_accepted_shows_no_limit() -> None:
    def answer(address: str) -> bytes:
        first = address == "r3@b.test" and not peer.messages
        return b"452 4.5.3 please send this recipient in a separate transaction\r\n" if first else b"250 ok\r\n"

    with Peer(rcpt=answer) as peer, smart_host(peer) as relay:
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(8), RAW)))) == {Delivered}
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(8), RAW)))) == {Delivered}
        assert [len(message.recipients) for message in peer.messages] == [7, 1, 8]


def test_a_reply_lost_after_a_split_is_unknown_for_its_own_recipients_alone() -> None:
    calls = Calls()
    with Peer(at={"dot": in_turn(SES, hang_up, None)}) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", people(60), RAW), calls)
        assert kinds(outcomes) == [Unknown] * 50 + [Delivered] * 10
        assert [reply and reply.code for reply in calls.after] == [554, None, 250]


def test_a_limit_that_is_given_holds_from_the_beginning() -> None:
    with Peer() as peer, pool() as connections:
        relay = SmartHost(Endpoint("127.0.0.1", peer.port, "none"), connections, 25)
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(60), RAW)))) == {Delivered}
        assert [len(message.recipients) for message in peer.messages] == [25, 25, 10]


def test_a_server_that_is_not_there_is_not_asked_for_each_part() -> None:
    with Peer(at={"banner": b"554 no\r\n"}) as peer, pool() as connections:
        relay = SmartHost(Endpoint("127.0.0.1", peer.port, "none"), connections, 1)
        assert kinds(attempt(relay, Envelope("a@a.test", people(9), RAW))) == [Deferred] * 9
        assert peer.connections == 1


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "stepwise"])
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(
    "behaviour",
    [
        then_close(b"421 4.7.0 Maximum message count per session reached\r\n"),
        b"421 enough\r\n",
        hang_up,
        b"452 4.5.0 too many messages in this session\r\n",
        b"554 5.7.0 session limit reached\r\n",
    ],
)
def test_a_connection_that_has_carried_enough_is_replaced_at_once(
    phase: str, behaviour: Behaviour, extensions: tuple[str, ...]
) -> None:
    with Peer(at={phase: in_turn(None, behaviour, None)}, extensions=extensions) as peer, smart_host(peer) as relay:
        for _ in range(3):
            calls = Calls()
            assert kinds(attempt(relay, calls=calls)) == [Delivered]
            assert len(calls.before) == 1
        assert (len(peer.messages), peer.connections) == (3, 2)


@pytest.mark.parametrize("behaviour", [then_close(b"421 4.7.0 enough\r\n"), hang_up])
def test_a_connection_that_ends_within_a_message_is_replaced_at_once(behaviour: Behaviour) -> None:
    big = replace(ONE, raw=(b"y" * 76 + b"\r\n") * 130_000)  # larger than a socket's buffer: the dot has not left
    with Peer(at={"body": in_turn(nothing, behaviour, nothing)}, extensions=()) as peer, smart_host(peer) as relay:
        for envelope in (ONE, big, ONE):
            assert kinds(attempt(relay, envelope)) == [Delivered]
        assert (len(peer.messages), peer.connections) == (3, 2)


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("answer", [b"421 4.7.0 enough\r\n", b"452 4.5.0 too many messages in this session\r\n"])
def test_a_fresh_connection_with_the_same_refusal_defers(phase: str, answer: bytes) -> None:
    with Peer(at={phase: in_turn(None, then_close(answer))}) as peer, smart_host(peer) as relay:
        attempt(relay)
        assert kinds(attempt(relay)) == [Deferred]
        assert peer.connections == 2


def test_recipients_beyond_what_a_session_may_carry_go_over_a_fresh_one() -> None:
    counts: Counter[int] = Counter()

    def rcpt(dialogue: Dialogue) -> None:
        counts[id(dialogue)] += 1
        dialogue.do(dialogue.normal if counts[id(dialogue)] <= 10 else b"452 4.5.3 too many recipients\r\n")

    with Peer(at={"rcpt": rcpt}) as peer, smart_host(peer) as relay:
        assert set(kinds(attempt(relay, Envelope("a@a.test", people(25), RAW)))) == {Delivered}
        assert sum(len(message.recipients) for message in peer.messages) == 25
        assert peer.connections == 3


@pytest.mark.parametrize("answer", [b"452 4.5.3 full\r\n", b"552 5.5.3 full\r\n", b"452 too many recipients\r\n"])
def test_recipients_beyond_a_servers_limit_go_in_further_transactions(answer: bytes) -> None:
    recipients = tuple(f"r{number}@b.test" for number in range(25))
    calls = Calls()
    with Peer(at={"rcpt": at_most(10, answer)}) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", recipients, RAW), calls)
        assert set(kinds(outcomes)) == {Delivered}
        assert [len(message.recipients) for message in peer.messages] == [10, 10, 5]
        assert peer.connections == 1
    assert calls.before == [recipients[:10], recipients[10:20], recipients[20:]]


def test_too_many_at_the_very_first_recipient_is_deferred() -> None:
    with Peer(at={"rcpt": b"452 4.5.3 too many, try again in 5 minutes\r\n"}) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", ("a@b.test", "b@b.test"), RAW))
        assert kinds(outcomes) == [Deferred, Deferred]
        assert outcomes["a@b.test"].after == 300.0
        assert peer.commands.count(b"MAIL FROM:<a@a.test> SIZE=%d" % len(RAW)) == 1


def test_a_fence_between_split_transactions_fences_the_rest() -> None:
    recipients = ("a@b.test", "b@b.test", "c@b.test")
    with Peer(at={"rcpt": at_most(1)}) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", recipients, RAW), Calls(True, False))
        assert kinds(outcomes) == [Delivered, Fenced, Fenced]
        assert len(peer.messages) == 1


def test_a_connection_lost_between_split_transactions_keeps_what_was_delivered() -> None:
    at: dict[str, Behaviour] = {
        "rcpt": at_most(1),
        "mail": in_turn(None, hang_up),
        "banner": in_turn(None, b"554 no more\r\n"),
    }
    with Peer(at=at) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", ("a@b.test", "b@b.test"), RAW))
        assert isinstance(outcomes["a@b.test"], Delivered)
        assert isinstance(outcomes["b@b.test"], Deferred)


def test_no_accepted_recipient_is_ever_sent_again() -> None:
    def answer(address: str) -> bytes:
        number = int(address.split("@")[0][1:])
        return b"450 busy\r\n" if number < 10 else b"550 5.1.1 no\r\n" if number < 20 else b"250 ok\r\n"

    recipients = tuple(f"r{number}@b.test" for number in range(100))
    with Peer(rcpt=answer) as peer, smart_host(peer) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", recipients, RAW))
        assert kinds(outcomes).count(Delivered) == 80
        assert len([address for message in peer.messages for address in message.recipients]) == 80
