"""Clients for the tests of sessions and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Outcome, Refused, TooMany
from mailbbgun.smtp.reply import Reply
from tests.smtp.drivers import opened, quit_, sent
from tests.smtp.peers import EXTENSIONS, PATIENT, Peer

STEPWISE = tuple(word for word in EXTENSIONS if word != "PIPELINING")
RAW = b"Subject: hello\r\n\r\nworld\r\n"
ONE = Envelope("from@a.test", ("to@b.test",), RAW)
BIG = Envelope("from@a.test", ("to@b.test",), (b"y" * 76 + b"\r\n") * 130_000)

both_ways = pytest.mark.parametrize("extensions", [EXTENSIONS, STEPWISE], ids=["pipelined", "stepwise"])


def quick(phase: str) -> Timeouts:
    """Return timeouts that are short only at the phase under test, for a busy machine's sake."""
    return replace(PATIENT, **{phase: 0.1})


def plain(peer: Peer, **more: object) -> Endpoint:
    return replace(Endpoint("peer.test", peer.port, "none", addresses=("127.0.0.1",)), **more)


def refusal(endpoint: Endpoint, timeouts: Timeouts = PATIENT) -> Deferred | Refused:
    with pytest.raises(CannotOpen) as caught:
        opened(endpoint, "client.test", timeouts)
    return caught.value.outcome


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
    connection = opened(Endpoint("127.0.0.1", peer.port, "none"), "client.test", timeouts)
    yield connection
    quit_(connection)


def send(
    peer: Peer,
    envelope: Envelope = ONE,
    timeouts: Timeouts = PATIENT,
    journal: Journal | None = None,
) -> dict[str, Outcome | TooMany]:
    journal = journal or Journal()
    with connected(peer, timeouts) as connection:
        return sent(connection, envelope, journal.before_dot, journal.after_dot)
