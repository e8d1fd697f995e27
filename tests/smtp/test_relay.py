"""Choosing the host, the connection and the transactions."""

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.mx import Resolver
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, Server, Unknown
from mailbbgun.smtp.pool import Pool
from mailbbgun.smtp.relay import DirectMX, SmartHost
from mailbbgun.smtp.reply import Reply
from tests.smtp.peers import PATIENT, Behaviour, NameServer, Peer, hang_up, in_turn, reset, silent, then_close

TIMEOUTS = replace(PATIENT, rset=0.2, quit=0.2)
RAW = b"Subject: x\r\n\r\ny\r\n"
ONE = Envelope("a@a.test", ("b@b.test",), RAW)


@contextmanager
def pool(clock: Callable[[], float] = time.monotonic) -> Iterator[Pool]:
    pool = Pool(TIMEOUTS, "client.test", clock=clock)
    yield pool
    pool.close_all()


@contextmanager
def smart_host(peer: Peer, clock: Callable[[], float] = time.monotonic, **endpoint: object) -> Iterator[SmartHost]:
    with pool(clock) as connections:
        yield SmartHost(Endpoint("127.0.0.1", peer.port, "none", **endpoint), connections)


class Calls:
    """How often the two functions were called, and with whom."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.before: list[tuple[str, ...]] = []
        self.after: list[Reply | None] = []

    def before_dot(self, accepted: tuple[str, ...]) -> bool:
        self.before.append(accepted)
        return self.answers.pop(0) if self.answers else True

    def after_dot(self, accepted: tuple[str, ...], reply: Reply | None) -> None:
        self.after.append(reply)


def attempt(relay: SmartHost | DirectMX, envelope: Envelope = ONE, calls: Calls | None = None) -> dict[str, Outcome]:
    calls = calls or Calls()
    return relay.attempt(envelope, calls.before_dot, calls.after_dot)


def kinds(outcomes: dict[str, Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes.values()]


# -- one server


def test_message_after_message_goes_over_one_connection() -> None:
    with Peer() as peer, smart_host(peer) as relay:
        for _ in range(10):
            assert kinds(attempt(relay)) == [Delivered]
        assert (peer.connections, len(peer.messages)) == (1, 10)


def test_a_server_that_cannot_be_reached_defers_and_one_that_refuses_us_refuses() -> None:
    with Peer(users={"u": "p"}) as peer, smart_host(peer, username="u", password="bad") as relay:
        (outcome,) = attempt(relay).values()
        assert isinstance(outcome, Refused)
        assert outcome.phase is Phase.AUTH
    assert kinds(attempt(relay)) == [Deferred]


@pytest.mark.parametrize(
    ("phase", "behaviour"),
    [("rset", hang_up), ("rset", reset), ("rset", then_close(b"421 4.4.2 enough\r\n")), ("rset", silent),
     ("rset", b"500 what\r\n"), ("rset", b"junk\r\n"), ("mail", hang_up),
     ("mail", then_close(b"421 4.7.0 enough\r\n"))],
)
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "stepwise"])
def test_a_kept_connection_that_proves_dead_is_replaced_with_nothing_counted(
    phase: str, behaviour: Behaviour, extensions: tuple[str, ...]
) -> None:
    normally_once = in_turn(*([None] if phase == "mail" else []), behaviour, None)
    rests = itertools.count(0, 2 if phase == "rset" else 0)  # with every look at the clock
    with Peer(at={phase: normally_once}, extensions=extensions) as peer, smart_host(peer, rests.__next__) as relay:
        calls = Calls()
        assert kinds(attempt(relay, calls=calls)) == [Delivered]
        assert kinds(attempt(relay, calls=calls)) == [Delivered]
        assert (len(peer.messages), peer.connections, len(calls.before)) == (2, 2, 2)


def test_a_fresh_connection_that_fails_too_is_not_replaced_again() -> None:
    with Peer(at={"mail": in_turn(None, then_close(b"421 no more\r\n"))}) as peer, smart_host(peer) as relay:
        attempt(relay)
        (outcome,) = attempt(relay).values()
        assert isinstance(outcome, Deferred)
        assert (outcome.phase, outcome.reply.code, peer.connections) == (Phase.MAIL, 421, 2)


def test_a_421_after_the_100th_message_hurts_no_message() -> None:
    closing = in_turn(*[None] * 5, then_close(b"421 4.7.0 too many messages\r\n"), None)
    with Peer(at={"mail": closing}) as peer, smart_host(peer) as relay:
        for _ in range(20):
            assert kinds(attempt(relay)) == [Delivered]
        assert (len(peer.messages), peer.connections) == (20, 2)


def test_a_reply_lost_after_the_dot_is_unknown_and_not_tried_again() -> None:
    for behaviour in (hang_up, reset):
        calls = Calls()
        with Peer(at={"dot": behaviour}) as peer, smart_host(peer) as relay:
            (outcome,) = attempt(relay, calls=calls).values()
            assert isinstance(outcome, Unknown)
            assert (len(peer.messages), peer.connections, calls.after) == (1, 1, [None])


def at_most(limit: int, answer: bytes = b"452 4.5.3 too many recipients\r\n") -> Behaviour:
    def rcpt(dialogue: object) -> None:
        if len(dialogue.recipients) < limit:
            dialogue.normal(dialogue)
        else:
            dialogue.say(answer)

    return rcpt


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
    at: dict[str, Behaviour] = {"rcpt": at_most(1), "mail": in_turn(None, hang_up), "banner": in_turn(None, b"554 no more\r\n")}
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


# -- straight to the exchangers


@contextmanager
def exchangers(*peers: Peer, zone: dict[str, object] | None = None, **more: object) -> Iterator[DirectMX]:
    """`peers` at 127.0.0.1, .2, … on one port, as mx1, mx2, … of b.test in that order of preference."""
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for number, peer in enumerate(peers, 1):
            peer.host, peer.port = f"127.0.0.{number}", port
            stack.enter_context(peer)
        records: dict[str, object] = {
            "b.test": {"MX": [f"{number}0 mx{number}.b.test." for number in range(1, len(peers) + 1)]},
            **{f"mx{number}.b.test": {"A": [f"127.0.0.{number}"]} for number in range(1, len(peers) + 1)},
            **(zone or {}),
        }
        server = stack.enter_context(NameServer(records))
        connections = stack.enter_context(pool())
        resolver = Resolver(["127.0.0.1"], server.port, lifetime=2)
        yield DirectMX(resolver, connections, port, **more)


def test_the_best_exchanger_gets_the_mail_for_all_recipients_in_one_transaction() -> None:
    first, second = Peer(), Peer()
    with exchangers(first, second) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", ("x@b.test", "y@b.test"), RAW))
        assert kinds(outcomes) == [Delivered, Delivered]
    assert ([m.recipients for m in first.messages], second.messages) == ([["x@b.test", "y@b.test"]], [])


@pytest.mark.parametrize(
    "at",
    [{"banner": b"554 no\r\n"}, {"banner": hang_up}, {"banner": b"junk\r\n"}, {"ehlo": b"550 no\r\n"},
     {"mail": hang_up}, {"mail": then_close(b"421 no\r\n")}, {"rcpt": reset}, {"data": hang_up}],
    ids=lambda at: " ".join(at),
)
def test_the_next_exchanger_is_tried_when_one_cannot_be_talked_to(at: dict[str, Behaviour]) -> None:
    first, second = Peer(at=at), Peer()
    with exchangers(first, second) as relay:
        assert kinds(attempt(relay)) == [Delivered]
    assert (first.connections, len(second.messages)) == (1, 1)


def test_the_next_address_is_tried_when_nobody_listens_at_the_first() -> None:
    only = Peer()
    with exchangers(only, zone={"b.test": {"MX": ["1 gone.b.test.", "2 dead.b.test.", "3 mx1.b.test."]},
                                "dead.b.test": {"A": ["127.0.0.77"]}}) as relay:
        assert kinds(attempt(relay)) == [Delivered]


@pytest.mark.parametrize(
    ("at", "kind", "phase"),
    [({"mail": b"450 4.7.1 grey\r\n"}, Deferred, Phase.MAIL), ({"rcpt": b"450 4.7.1 grey\r\n"}, Deferred, Phase.RCPT),
     ({"rcpt": b"550 5.1.1 no\r\n"}, Bounced, Phase.RCPT), ({"dot": hang_up}, Unknown, Phase.DOT),
     ({"dot": b"451 4.3.0 later\r\n"}, Deferred, Phase.DOT),
     ({"dot": then_close(b"421 bye\r\n")}, Deferred, Phase.DOT)],
)
def test_a_verdict_of_one_exchanger_stands(at: dict[str, Behaviour], kind: type, phase: Phase) -> None:
    first, second = Peer(at=at), Peer()
    with exchangers(first, second) as relay:
        (outcome,) = attempt(relay).values()
    assert (type(outcome), outcome.phase) == (kind, phase)
    assert second.connections == 0


def test_no_exchanger_answering_is_deferred_with_the_last_reason() -> None:
    with exchangers(Peer(at={"banner": b"554 one\r\n"}), Peer(at={"banner": b"421 two\r\n"})) as relay:
        (outcome,) = attempt(relay).values()
    assert outcome == Deferred(Reply(421, None, "two"), Phase.BANNER, server=Server("mx2.b.test", "127.0.0.2"))


@pytest.mark.parametrize(
    ("zone", "kind", "enhanced"),
    [({"b.test": {"MX": ["0 ."]}}, Bounced, "5.1.10"), ({"b.test": "SERVFAIL"}, Deferred, "4.4.3"),
     ({"b.test": {"MX": ["1 gone.b.test."]}}, Bounced, "5.4.4"),
     ({"b.test": {"MX": ["1 gone.b.test.", "2 ill.b.test."]}, "ill.b.test": "SERVFAIL"}, Deferred, "4.4.3"),
     ({"b.test": {"MX": ["1 ill.b.test.", "2 gone.b.test."]}, "ill.b.test": "SERVFAIL"}, Deferred, "4.4.3")],
)
def test_a_domain_without_a_way_in_has_the_verdict_of_the_dns(
    zone: dict[str, object], kind: type, enhanced: str
) -> None:
    with exchangers(zone=zone) as relay:
        (outcome,) = attempt(relay).values()
    assert (type(outcome), outcome.phase, outcome.reply.enhanced) == (
        kind, Phase.DNS, enhanced)


def test_an_address_that_is_not_permitted_is_never_connected_to() -> None:
    first, second = Peer(), Peer()
    with exchangers(first, second, permitted=lambda address: address != "127.0.0.1") as relay:
        assert kinds(attempt(relay)) == [Delivered]
    assert (first.connections, len(second.messages)) == (0, 1)
    with exchangers(first := Peer(), permitted=lambda _: False) as relay:
        assert kinds(attempt(relay)) == [Bounced]
    assert first.connections == 0


def test_there_is_no_account_to_pause_so_nothing_is_refused() -> None:
    with exchangers(Peer(at={"mail": b"530 5.7.0 authentication required\r\n"})) as relay:
        assert kinds(attempt(relay)) == [Deferred]
    with exchangers(Peer(), security="starttls") as relay:
        assert kinds(attempt(relay)) == [Deferred]


def test_an_address_literal_needs_no_dns() -> None:
    only = Peer()
    with exchangers(only) as relay:
        assert kinds(attempt(relay, Envelope("", ("x@[127.0.0.1]",), RAW))) == [Delivered]


def test_no_more_than_five_servers_are_tried() -> None:
    peers = [Peer(at={"banner": b"554 no\r\n"}) for _ in range(7)]
    with exchangers(*peers) as relay:
        assert kinds(attempt(relay)) == [Deferred]
    assert [peer.connections for peer in peers] == [1] * 5 + [0] * 2


def test_no_recipients_are_no_work() -> None:
    with exchangers() as relay:
        assert attempt(relay, Envelope("a@a.test", (), RAW)) == {}
