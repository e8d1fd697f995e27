"""Relays and attempts for tests."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mailbbgun.core.net import Allowed, Guard
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.relay import DirectMX, SmartHost
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import (
    Outcome,
)
from mailbbgun.smtp.reply import Reply
from tests.smtp.drivers import attempted, run
from tests.smtp.peers import PATIENT, Peer

TIMEOUTS = replace(PATIENT, rset=0.2, quit=0.2)
RAW = b"Subject: x\r\n\r\ny\r\n"
ONE = Envelope("a@a.test", ("b@b.test",), RAW)
LOOPBACK = Guard(allowed=Allowed.read(["127.0.0.0/8"]))


@contextmanager
def pool(clock: Callable[[], float] = time.monotonic) -> Iterator[Pool]:
    pool = Pool(TIMEOUTS, "client.test", clock=clock)
    yield pool
    run(pool.close_all())


@contextmanager
def smart_host(peer: Peer, clock: Callable[[], float] = time.monotonic, **endpoint: object) -> Iterator[SmartHost]:
    with pool(clock) as connections:
        yield SmartHost(Endpoint("127.0.0.1", peer.port, "none", **endpoint), connections)


class Calls:
    """The two functions around the dot; keeps how often they were called, and for whom."""

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
    return attempted(relay, envelope, calls.before_dot, calls.after_dot)


def kinds(outcomes: dict[str, Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes.values()]
