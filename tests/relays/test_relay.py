"""A relay sends through one server, over kept and fresh connections."""

import itertools

import pytest

from mailbbgun.smtp.outcome import (
    Deferred,
    Delivered,
    Phase,
    Refused,
    Unknown,
)
from tests.relays.relaying import Calls, attempt, kinds, smart_host
from tests.smtp.behaviours import in_turn, reset, silent, then_close
from tests.smtp.peers import Behaviour, Peer, hang_up

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
    [
        ("rset", hang_up),
        ("rset", reset),
        ("rset", then_close(b"421 4.4.2 enough\r\n")),
        ("rset", silent),
        ("rset", b"500 what\r\n"),
        ("rset", b"junk\r\n"),
        ("mail", hang_up),
        ("mail", then_close(b"421 4.7.0 enough\r\n")),
    ],
)
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "stepwise"])
def test_a_kept_connection_that_proves_dead_is_replaced_with_nothing_counted(
    phase: str, behaviour: Behaviour, extensions: tuple[str, ...]
) -> None:
    normally_once = in_turn(*([None] if phase == "mail" else []), behaviour, None)
    rests = itertools.count(0, 2 if phase == "rset" else 0)  # the time moves on with every call of the clock
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
