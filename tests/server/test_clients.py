"""Who is closed when there are too many, and when: real sockets, and a clock that the test sets."""

import json
import logging
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types

from mailbbgun.server.accepting import Doors
from mailbbgun.server.clients import Clients
from mailbbgun.server.connection import ClientConnection
from mailbbgun.server.limits import SLOWEST_RATE, SMALL, ServerLimits, limits_of
from mailbbgun.server.poller import READ, Poller
from mailbbgun.server.refusal import Refusal
from mailbbgun.settings.load import load
from tests.waiting import PATIENCE

log = logging.getLogger(__name__)
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
HALF_HEAD = b"GET /x HTTP/1.1\r\nX"
HALF_BODY = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc"
CHUNKED = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"
LARGE_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000
LIMITS = limits_of(load({"MAILBBGUN_API_CONNECTIONS": "16", "MAILBBGUN_API_CONNECTIONS_PER_ADDRESS": "8"}), 75.0)


class Answering:
    """Answers each request with ``answer``; keeps those whose answer is None as being served."""

    clients: Clients

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.served: list[ClientConnection] = []

    def serve(self, connection: ClientConnection, _request: Any) -> None:
        self.served.append(connection)
        if self.answer is not None:
            self.clients.send(connection, self.answer, keeps=True)

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        log.info("%s %s", connection.client, refusal)


@dataclass
class House:
    """Clients on a port of their own."""

    limits: ServerLimits = LIMITS
    answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    now: float = 1000.0
    sources: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.listener = self.sources.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self.poller = Poller(lambda: pytest.fail("an error in the poller"))
        self.server = Answering(self.answer)
        self.server.clients = self.clients = Clients(
            Config(), self.limits, self.poller, self.server, log, lambda: self.now
        )
        self.doors = Doors(self.poller, self.clients, [self.listener])
        self.doors.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clients.close_all()
        for connection in self.server.served:
            self.clients.close(connection)
        self.poller.close()
        self.sources.close()

    def connect(self, sent: bytes = b"", source: str = "127.0.0.1", receive: int = 0) -> socket.socket:
        """Return a new connection that has sent so much, all of which is read."""
        line = self.sources.enter_context(socket.socket())
        if receive:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        line.bind((source, 0))
        line.connect(self.listener.getsockname())
        line.settimeout(PATIENCE)
        if sent:
            line.sendall(sent)
        self.settle()
        return line

    def settle(self) -> None:
        """Let the poller do all there is to do."""
        for _ in range(12):
            self.poller.turn(0)

    def later(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        while self.clients.end_late():
            self.settle()
        self.settle()


@pytest.fixture
def house() -> Iterator[House]:
    with House() as made:
        yield made


def closed(line: socket.socket) -> bool:
    """Say whether the server has closed a connection, without a word."""
    line.settimeout(0.05)
    try:
        return line.recv(65_536) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def read_all(house: House, line: socket.socket, size: int) -> None:
    """Read so many bytes while the poller sends them."""
    line.setblocking(False)
    while size:
        house.settle()
        with suppress(BlockingIOError):
            size -= len(line.recv(size))


def answer(line: socket.socket) -> tuple[int, Any]:
    """Return status and error of an answer that ends the connection."""
    received = b""
    while piece := line.recv(65_536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def served(house: House, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection that has had an answer and is idle."""
    line = house.connect(GET, source)
    assert line.recv(65_536).startswith(b"HTTP/1.1 200")
    return line


def test_whoever_has_made_no_progress_for_longest_is_closed_to_make_room(house: House) -> None:
    lines = []
    for sent in (HALF_HEAD, b"", HALF_BODY, GET, HALF_HEAD, HALF_BODY, b"", GET):
        lines.append(served(house) if sent == GET else house.connect(sent))
        house.later(2)
    for number in range(8):
        served(house)
        assert closed(lines[number])
        assert not any(closed(line) for line in lines[number + 1 :])
        house.later(0.1)


@pytest.mark.parametrize("sent", [b"", HALF_HEAD, HALF_BODY, GET])
def test_whoever_is_new_gets_in_among_however_many_that_are_as_new(sent: bytes) -> None:
    with House(answer=LARGE_ANSWER) as house:
        for _ in range(20):
            house.connect(sent, receive=4096)
            house.now += 0.001
        line = house.connect()
        house.now += 0.001
        for _ in range(6):  # before it has asked for anything
            house.connect(sent, receive=4096)
            house.now += 0.001
        line.sendall(GET)
        house.settle()
        assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_while_a_request_that_came_ahead_is_served_the_poller_has_nothing_to_do() -> None:
    with House(answer=None) as house:
        line = house.connect(GET + GET)
        (connection,) = house.server.served
        house.clients.send(connection, LARGE_ANSWER, keeps=True)
        read_all(house, line, len(LARGE_ANSWER))
        assert house.server.served == [connection, connection]
        assert connection.watched == READ  # there is room to write, of which it would be told in each turn


def test_a_request_that_is_being_served_is_never_closed() -> None:
    with House(answer=None) as house:
        first = house.connect(GET)
        house.later(10_000)
        for _ in range(30):
            house.connect(HALF_HEAD)
        assert len(house.clients) == 8
        house.clients.send(house.server.served[0], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keeps=True)
        assert first.recv(100).startswith(b"HTTP/1.1 200")


def test_an_address_has_its_own_bound_and_all_together_have_one(house: House) -> None:
    other = served(house, "127.0.0.2")
    house.later(5)
    for _ in range(30):
        house.connect(HALF_HEAD)
    assert not closed(other)
    assert len(house.clients) == 9
    for number in range(30):
        house.connect(b"", f"127.0.1.{number}")
    assert len(house.clients) == 16
    assert closed(other)


def test_behind_proxies_only_the_bound_of_all_counts() -> None:
    settings = load(
        {"MAILBBGUN_API_CONNECTIONS": "16", "MAILBBGUN_API_CONNECTIONS_PER_ADDRESS": "8", "MAILBBGUN_PROXIES": "1"}
    )
    with House(limits_of(settings, 75.0)) as house:
        for _ in range(30):
            house.connect(HALF_HEAD)
            house.now += 0.001
        assert len(house.clients) == 16
        served(house)


@pytest.mark.parametrize(
    "sent", [HALF_HEAD, b"P", HALF_BODY, b"POST /messages HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", CHUNKED]
)
def test_a_late_head_or_body_gets_408(house: House, sent: bytes) -> None:
    line = house.connect(sent)
    house.later(19)
    assert not closed(line)
    line.settimeout(PATIENCE)
    house.later(2)
    status, error = answer(line)
    assert (status, error["status"], error["code"]) == (408, 408, "request_timeout")
    assert ("head" in error["message"]) == (sent in (HALF_HEAD, b"P"))


def test_who_asks_nothing_is_closed_without_a_word(house: House) -> None:
    silent, idle = house.connect(), served(house)
    house.later(21)
    assert closed(silent)
    assert not closed(idle)
    house.later(55)
    assert closed(idle)


def test_a_head_that_drips_is_late_however_often_a_byte_comes(house: House) -> None:
    line = served(house)
    for byte in GET[:21]:
        line.sendall(bytes([byte]))
        house.settle()
        house.later(1)
    assert answer(line)[0] == 408


def test_a_body_that_keeps_the_pace_has_time_and_one_that_drips_has_not(house: House) -> None:
    honest, dripping = house.connect(HALF_BODY), house.connect(HALF_BODY)
    for step in range(30):
        honest.sendall(b"x" * (SLOWEST_RATE * 7))
        if step < 3:
            dripping.sendall(b"x" * 100)
        house.settle()
        house.later(6)
    status, error = answer(dripping)
    assert (status, error["message"]) == (408, "The body came too slowly: less than 81920 bytes in 20 s.")
    sent = 3 + 30 * SLOWEST_RATE * 7
    honest.sendall(b"x" * (1_000_000 - sent))
    house.settle()
    assert honest.recv(100).startswith(b"HTTP/1.1 200")


def test_no_body_takes_longer_than_the_longest_whatever_its_pace() -> None:
    with House(replace(LIMITS, transfer=60.0)) as house:
        line = house.connect(HALF_BODY)
        for _ in range(9):
            line.sendall(b"x" * (SLOWEST_RATE * 20))
            house.settle()
            house.later(10)
        status, error = answer(line)
        assert (status, error["message"]) == (408, "The request's body did not come within 60 s.")


def test_an_answer_is_sent_to_whoever_reads_it_slowly_and_not_to_whoever_does_not() -> None:
    with House(answer=LARGE_ANSWER) as house:
        slow, deaf = (house.connect(GET, receive=16_384) for _ in range(2))
        received = b""
        while len(received) < len(LARGE_ANSWER):
            before = len(received)
            while len(received) < min(before + SLOWEST_RATE * 40, len(LARGE_ANSWER)):
                received += slow.recv(65_536)
                house.settle()
            house.later(19)
        assert received == LARGE_ANSWER
        with pytest.raises(ConnectionResetError):
            deaf.makefile("rb").read()


def test_large_bodies_and_answers_are_bounded_together() -> None:
    with House(replace(LIMITS, buffers=250_000, connections_per_address=100, connections=100)) as house:
        small = house.connect(HALF_BODY)
        lines = []
        for _ in range(4):
            lines.append(house.connect(HALF_BODY))
            lines[-1].sendall(b"x" * 100_000)
            house.settle()
            house.later(1)
        assert [closed(line) for line in [small, *lines]] == [False, True, True, False, False]


@pytest.mark.parametrize("together", [True, False])
def test_what_is_sent_ahead_of_an_answer_is_not_kept_beyond_the_bound_of_all(together: bool) -> None:
    ahead = GET * (60_000 // len(GET))
    with House(replace(LIMITS, buffers=1_000_000, connections_per_address=100, connections=100), answer=None) as house:
        lines = [house.connect(GET + ahead if together else GET) for _ in range(50)]
        for line in lines:
            line.sendall(ahead)
        house.settle()
        kept = sum(connection.incoming.held for connection in house.server.served)
        assert kept < 1_000_000 + len(ahead)
        assert (kept > 0) == together
        assert len(house.server.served) == len(house.clients) == len(lines)
        for connection, line in zip(list(house.server.served), lines, strict=True):
            house.clients.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keeps=True)
            assert line.recv(100).startswith(b"HTTP/1.1 200")
            assert not connection.cut or closed(line)


def test_a_request_sent_while_another_is_served_is_served_after_it(house: House) -> None:
    house.server.answer = None
    line = house.connect(GET)
    line.sendall(GET + GET)
    house.settle()
    for number in range(3):
        assert len(house.server.served) == number + 1
        house.clients.send(house.server.served[-1], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keeps=True)
        house.settle()
        assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_hangs_up_while_it_is_served_is_noticed(house: House) -> None:
    house.server.answer = None
    line = house.connect(GET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    line.close()
    house.settle()
    assert house.server.served[0].broken


def test_without_files_and_anybody_to_close_the_poller_rests_until_it_looks_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = 0

    def counted(listener: socket.socket, accept: Any = socket.socket.accept) -> Any:
        nonlocal accepted
        accepted += 1
        return accept(listener)

    house.server.answer = None
    house.connect(GET)
    line = house.sources.enter_context(socket.socket())
    line.settimeout(PATIENCE)
    lowest = os.dup(house.listener.fileno())
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        line.connect(house.listener.getsockname())
        monkeypatch.setattr(socket.socket, "accept", counted)
        for tried in (1, 2):
            house.settle()
            assert accepted == tried
            house.doors.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    house.server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    line.sendall(GET)
    house.doors.open()
    house.settle()
    assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_what_comes_after_an_answer_that_ends_the_connection_is_read_but_not_for_ever(house: House) -> None:
    line = house.connect(b"PUT /x HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 30_000)
    for _ in range(20):
        line.sendall(b"x" * SMALL)
        house.settle()
    assert answer(line)[0] == 413
    assert len(house.clients) == 1
    house.later(3)
    assert len(house.clients) == 0


def test_whoever_stops_serving_ends_idle_connections_at_once_and_half_requests_soon() -> None:
    with House(answer=None) as house:
        busy, half, silent = (house.connect(sent) for sent in (GET, HALF_HEAD, b""))
        house.later(19)
        house.clients.stop()
        assert closed(silent)
        assert not closed(half)
        half.settimeout(PATIENCE)
        house.later(1)
        assert not closed(half)
        half.settimeout(PATIENCE)
        house.later(2)
        assert answer(half)[0] == 408
        house.clients.send(house.server.served[0], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keeps=True)
        assert busy.recv(100).startswith(b"HTTP/1.1 200")
        assert closed(busy)


def test_requests_sent_ahead_by_one_do_not_keep_others_waiting() -> None:
    with House() as house:
        greedy, modest = house.connect(), house.connect()
        greedy.sendall(GET * 500)
        modest.sendall(GET)
        for _ in range(5):
            house.poller.turn(0.01)
        assert modest.recv(100).startswith(b"HTTP/1.1 200")
        assert len(house.server.served) < 20
