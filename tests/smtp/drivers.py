"""Runs the client's coroutines in tests, with the driver that the test's fixture chose.

A connection belongs to the driver that made it, so a test has one driver: the blocking one, unless
the fixture `driver` of `tests/smtp/conftest.py` or `tests/relays/conftest.py` says otherwise. It also
says in which form messages are sent: as bytes, or from a file (`spooled`).
"""

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

import pytest

from mailbbgun.drivers import blocking
from mailbbgun.drivers.loop import Loop
from mailbbgun.drivers.operations import Conversation
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.relays.contract import Relay
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Outcome, TooMany
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.spooled import Spooled, spool
from tests.waiting import PATIENCE

T = TypeVar("T")
DRIVERS = ("blocking", "loop")

#: Mark of tests that run with each driver.
with_each_driver = pytest.mark.parametrize("driver", DRIVERS, indirect=True)

#: Mark of tests that run with bytes and with messages in files.
with_each_form = pytest.mark.parametrize("driver", ["loop", "loop, spooled"], indirect=True)

#: Mark of tests that run with each driver, and with messages in files.
with_each_driver_and_form = pytest.mark.parametrize("driver", [*DRIVERS, "loop, spooled"], indirect=True)

_loop: Loop | None = None  # of the test that runs now; None: it uses the blocking driver
_spools = False  # whether the test that runs now sends messages from files


@contextmanager
def using(driver: str) -> Iterator[Loop | None]:
    """Use a driver for what `run` is given in the block; "…, spooled": with messages in files."""
    global _loop, _spools
    if driver == "blocking":
        yield None
        return
    _loop, _spools = Loop(), driver.endswith("spooled")
    loop = _loop
    try:
        yield loop
    finally:
        _loop, _spools = None, False
        loop.close()


@contextmanager
def formed(envelope: Envelope) -> Iterator[Envelope]:
    """Give the envelope its message in the form that the test asks for."""
    if not _spools or isinstance(envelope.raw, Spooled):
        yield envelope
        return
    with spool([envelope.raw], tempfile.gettempdir()) as spooled:
        yield replace(envelope, raw=spooled)


def run(conversation: Conversation[T]) -> T:
    """Run a coroutine to its end; return what it returns, or raise what it raises."""
    return blocking.run(conversation) if _loop is None else run_on(_loop, conversation)


def run_on(loop: Loop, conversation: Conversation[T]) -> T:
    """Turn a loop until a coroutine has ended; return what it returns, or raise what it raises."""
    ended: list[Callable[[], T]] = []

    def raises(error: BaseException) -> T:
        raise error

    async def to_its_end() -> None:
        try:
            result = await conversation
            ended.append(lambda: result)
        except Exception as error:  # noqa: BLE001 - raised again below
            told = error
            ended.append(lambda: raises(told))

    loop.start(to_its_end())
    while not ended:
        loop.turn(1.0)
    return ended[0]()


def soon(seconds: float = PATIENCE) -> float:
    """Return a deadline: in so many seconds, or one that only a hang reaches."""
    return monotonic() + seconds


def to_the_end(loop: Loop) -> int:
    """Turn until every coroutine has ended; return how many turns that took."""
    turns = 0
    while len(loop):
        loop.turn(1.0)
        turns += 1
    return turns


def awaited(function: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Return a function as an async one: those around the dot are awaited."""

    async def call(*arguments: Any) -> T:
        return function(*arguments)

    return call


def opened(endpoint: Endpoint, helo: str, timeouts: Timeouts) -> SMTPConnection:
    """Open a session."""
    return run(SMTPConnection.open(endpoint, helo, timeouts))


def quit_(connection: SMTPConnection) -> None:
    """End a session."""
    run(connection.quit())


def sent(
    connection: SMTPConnection,
    envelope: Envelope,
    before_dot: Callable[[tuple[str, ...]], bool] = lambda _: True,
    after_dot: Callable[[tuple[str, ...], Reply | None], object] = lambda *_: None,
) -> dict[str, Outcome | TooMany]:
    """Run one transaction, with plain functions around the dot."""
    try:
        with formed(envelope) as mail:
            return run(connection.send(mail, awaited(before_dot), awaited(after_dot)))
    except EnvelopeError as error:  # of a message that cannot be spooled
        return dict.fromkeys(envelope.recipients, error.outcome)


def attempted(
    relay: Relay,
    envelope: Envelope,
    before_dot: Callable[[tuple[str, ...]], bool] = lambda _: True,
    after_dot: Callable[[tuple[str, ...], Reply | None], object] = lambda *_: None,
) -> dict[str, Outcome]:
    """Let a relay try once, with plain functions around the dot."""
    with formed(envelope) as mail:
        return run(relay.attempt(mail, awaited(before_dot), awaited(after_dot)))
