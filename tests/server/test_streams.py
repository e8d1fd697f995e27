"""Responses that are made while their client reads, on a poller with a clock that the test sets."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from mailbbgun.server.bodies.answers import ResponseStream
from mailbbgun.server.client_limits import Stage
from tests.server.harness import GET, LIMITS, Harness, closed
from tests.waiting import bounded, wait_until

BLOCK = bytes(100_000)


class Made:
    """The blocks of a response, counted as they are made."""

    def __init__(self, harness: Harness, blocks: Iterator[bytes]) -> None:
        self.made, self.ends = 0, 0
        self._harness, self._blocks = harness, blocks
        self._threads = ThreadPoolExecutor(1)

    def stream(self) -> ResponseStream:
        return ResponseStream("GET /x", self._counted(), self._end, self._submit, self._harness.poller.call)

    def _counted(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.made += 1
            yield block

    def _end(self) -> None:
        self.ends += 1

    def _submit(self, work: Callable[[], None]) -> None:
        self._threads.submit(work)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(answer=None) as made:
        yield made


def test_a_block_is_made_when_the_client_has_read_the_one_before(harness: Harness) -> None:
    made = Made(harness, iter([BLOCK] * 50))
    line = harness.connect(GET, receive=4096)
    connection = harness.server.served[-1]
    harness.clients.send(connection, made.stream(), keep_alive=True)
    wait_until(lambda: harness.settle() or (connection.unsent and not connection.flushing), "a full socket")
    assert made.made < 10
    assert connection.held <= len(BLOCK)
    line.setblocking(False)
    size = 0
    while size < 50 * len(BLOCK):
        harness.settle()
        with suppress(BlockingIOError):
            size += len(line.recv(65_536))
    wait_until(lambda: harness.settle() or connection.stage is Stage.IDLE, "the next request's turn")
    assert (made.made, made.ends, connection.held) == (50, 1, 0)


class Panic(BaseException):
    """Of a library in Rust: no Exception."""


@pytest.mark.parametrize("error", [ValueError, Panic])
def test_a_response_that_breaks_off_ends_the_connection_and_is_told(
    harness: Harness, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def failing() -> Iterator[bytes]:
        yield b"first"
        raise error("no more")

    made = Made(harness, failing())
    line = harness.connect(GET)
    harness.clients.send(harness.server.served[-1], made.stream(), keep_alive=True)
    wait_until(lambda: harness.settle() or harness.server.served[-1].stage is Stage.CLOSED, "the end")
    assert made.ends == 1
    assert "A response breaks off: GET /x" in caplog.text
    assert f"{error.__name__}: no more" in caplog.text
    with suppress(ConnectionResetError):
        assert line.recv(100) in (b"", b"first")


def test_a_client_that_reads_nothing_is_closed_and_a_slow_application_is_not_its_fault(harness: Harness) -> None:
    goes_on = threading.Event()

    def blocks() -> Iterator[bytes]:
        yield b"first"
        with bounded("the test"):
            goes_on.wait()
        while True:
            yield BLOCK

    made = Made(harness, blocks())
    line = harness.connect(GET, receive=4096)
    connection = harness.server.served[-1]
    harness.clients.send(connection, made.stream(), keep_alive=True)
    wait_until(lambda: harness.settle() or made.made == 1, "the first block")
    harness.later(10 * LIMITS.seconds[Stage.ANSWER])
    assert not closed(line)
    goes_on.set()
    wait_until(lambda: harness.settle() or (connection.unsent and not connection.flushing), "a full socket")
    harness.later(LIMITS.seconds[Stage.ANSWER] + 1)
    assert (connection.stage, made.ends) == (Stage.CLOSED, 1)


def test_a_response_whose_client_leaves_ends_once_its_thread_has_made_the_block(harness: Harness) -> None:
    waits, goes_on = threading.Event(), threading.Event()

    def blocks() -> Iterator[bytes]:
        yield b"first"
        waits.set()
        with bounded("the test"):
            goes_on.wait()
        yield b"second"

    made = Made(harness, blocks())
    harness.connect(GET)
    connection = harness.server.served[-1]
    harness.clients.send(connection, made.stream(), keep_alive=True)
    wait_until(lambda: harness.settle() or waits.is_set(), "the wait for the second block")
    harness.clients.close(connection)
    harness.settle()
    assert made.ends == 0
    goes_on.set()
    wait_until(lambda: harness.settle() or made.ends == 1, "the end")


def test_of_responses_that_are_too_much_together_the_one_that_moves_least_is_closed() -> None:
    limits = replace(LIMITS, buffers=len(BLOCK) * 3 // 2)
    with Harness(limits, answer=None) as harness:
        sent = []
        for blocks in ([BLOCK[:50_000], BLOCK], [BLOCK] * 50):
            made = Made(harness, iter(blocks))
            line = harness.connect(GET, receive=4096)
            connection = harness.server.served[-1]
            harness.clients.send(connection, made.stream(), keep_alive=True)
            wait_until(lambda one=connection: harness.settle() or one.unsent, "a full socket")
            sent.append((made, connection, line))
        (first, its_connection, its_line), (other, other_connection, _) = sent
        its_line.setblocking(False)
        while not first.ends:
            harness.settle()
            with suppress(BlockingIOError, ConnectionResetError):
                its_line.recv(50_000)
        assert its_connection.stage is Stage.CLOSED
        assert (other_connection.stage, other.ends) == (Stage.ANSWER, 0)
