"""Row R23: a hostile server can neither hold a thread beyond its deadline nor make it grow."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Unknown
from tests.smtp.behaviours import drip, endless, endless_line, half_a_line, silent
from tests.smtp.drivers import opened, quit_, sent, with_each_driver_and_form
from tests.smtp.peers import EXTENSIONS, PATIENT, Behaviour, Dialogue, Peer
from tests.waiting import at_least, bounded, pause

pytestmark = with_each_driver_and_form

LIMIT = 0.3
PHASES = ["banner", "ehlo", "auth", "mail", "rcpt", "data", "dot"]
ENVELOPE = Envelope("a@a.test", ("b@b.test",), b"x\r\n" * 1000)


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def hasty(phase: str) -> Timeouts:
    """Return timeouts that are short at the phase under test and at QUIT."""
    return replace(PATIENT, **{phase: LIMIT, "quit": LIMIT})


def talk(phase: str, behaviour: Behaviour) -> type:
    with Peer(at={phase: behaviour}, users={"u": "p"}) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, "none", "u", "p")
        try:
            connection = opened(endpoint, "client.test", hasty(phase))
        except CannotOpen as error:
            return type(error.outcome)
        (outcome,) = sent(connection, ENVELOPE).values()
        return type(outcome)


@pytest.mark.parametrize("behaviour", [endless, endless_line], ids=["lines", "a line"])
def test_an_endless_reply_costs_neither_memory_nor_time(behaviour: Behaviour) -> None:
    talk("banner", behaviour)
    before = resident_megabytes()
    for phase in PHASES:
        with bounded(phase):
            assert talk(phase, behaviour) is (Unknown if phase == "dot" else Deferred)
    assert resident_megabytes() - before < 5


@pytest.mark.parametrize("phase", PHASES)
def test_a_drip_cannot_stretch_the_deadline(phase: str) -> None:
    with bounded("a drip that never ends"), at_least(LIMIT * 0.9):
        assert talk(phase, drip) is (Unknown if phase == "dot" else Deferred)


def test_a_drip_of_whole_lines_cannot_stretch_the_deadline() -> None:
    def lines(dialogue: Dialogue) -> None:
        while True:
            dialogue.say(b"250-more\r\n")
            pause(0.02)

    with bounded("lines that never end"):
        assert talk("mail", lines) is Deferred


def test_slow_answers_to_many_recipients_share_one_deadline() -> None:
    def slow(dialogue: Dialogue) -> None:
        pause(0.05)
        dialogue.say(b"250 ok\r\n")

    many = Envelope("a@a.test", tuple(f"r{n}@b.test" for n in range(60)), b"x\r\n")
    timeouts = replace(PATIENT, rcpt=0.1)  # each answer alone is in time; all together take three seconds
    for extensions in (EXTENSIONS, ()):
        with Peer(at={"rcpt": slow}, extensions=extensions) as peer:
            connection = opened(Endpoint("127.0.0.1", peer.port, "none"), "client.test", timeouts)
            outcomes = sent(connection, many)
            assert {type(outcome) for outcome in outcomes.values()} == {Deferred}


@pytest.mark.parametrize("behaviour", [silent, drip, half_a_line])
def test_saying_goodbye_is_bounded_too(behaviour: Behaviour) -> None:
    with Peer(at={"quit": behaviour}) as peer:
        connection = opened(Endpoint("127.0.0.1", peer.port, "none"), "client.test", hasty("quit"))
        with bounded("a goodbye that is never answered"):
            quit_(connection)


def test_what_a_server_says_is_kept_as_safe_short_text() -> None:
    nasty = b"550-5.7.1 \x1b]0;owned\x07" + b"A" * 3000 + b"\r\n550 5.7.1 \xe2\x80\xae=cmd\r\n"
    with Peer(at={"rcpt": nasty}) as peer:
        connection = opened(Endpoint("127.0.0.1", peer.port, "none"), "client.test", PATIENT)
        (outcome,) = sent(connection, ENVELOPE).values()
        quit_(connection)
    text = outcome.reply.text
    assert text.isprintable()
    assert len(text.encode()) <= 2048
