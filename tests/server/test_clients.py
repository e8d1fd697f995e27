"""Which connections are closed, and when: because they are late, or to make room."""

import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mailbbgun.server.client_limits import SLOWEST_RATE, SMALL, limits_of
from mailbbgun.server.poller import READ
from mailbbgun.settings.load import load
from tests.server.harness import (
    CHUNKED,
    GET,
    HALF_BODY,
    HALF_HEAD,
    LARGE_ANSWER,
    LIMITS,
    RESET,
    Harness,
    answer,
    closed,
    read_all,
    served,
)
from tests.waiting import PATIENCE


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def test_the_connection_without_progress_for_longest_is_closed_to_make_room(harness: Harness) -> None:
    lines = []
    for sent in (HALF_HEAD, b"", HALF_BODY, GET, HALF_HEAD, HALF_BODY, b"", GET):
        lines.append(served(harness) if sent == GET else harness.connect(sent))
        harness.later(2)
    for number in range(8):
        served(harness)
        assert closed(lines[number])
        assert not any(closed(line) for line in lines[number + 1 :])
        harness.later(0.1)


@pytest.mark.parametrize("sent", [b"", HALF_HEAD, HALF_BODY, GET])
def test_a_new_client_gets_in_among_many_that_are_just_as_new(sent: bytes) -> None:
    with Harness(answer=LARGE_ANSWER) as harness:
        for _ in range(20):
            harness.connect(sent, receive=4096)
            harness.now += 0.001
        line = harness.connect()
        harness.now += 0.001
        for _ in range(6):  # before it has sent anything
            harness.connect(sent, receive=4096)
            harness.now += 0.001
        line.sendall(GET)
        harness.settle()
        assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_while_a_pipelined_request_is_served_the_poller_has_nothing_to_do() -> None:
    with Harness(answer=None) as harness:
        line = harness.connect(GET + GET)
        (connection,) = harness.server.served
        harness.clients.send(connection, LARGE_ANSWER, keep_alive=True)
        read_all(harness, line, len(LARGE_ANSWER))
        assert harness.server.served == [connection, connection]
        assert connection.watched == READ  # not WRITE: each turn would report that it is writable


def test_a_request_that_is_being_served_is_never_closed() -> None:
    with Harness(answer=None) as harness:
        first = harness.connect(GET)
        harness.later(10_000)
        for _ in range(30):
            harness.connect(HALF_HEAD)
        assert len(harness.clients) == 8
        harness.clients.send(harness.server.served[0], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep_alive=True)
        assert first.recv(100).startswith(b"HTTP/1.1 200")


def test_an_address_has_its_own_bound_and_all_together_have_one(harness: Harness) -> None:
    other = served(harness, "127.0.0.2")
    harness.later(5)
    for _ in range(30):
        harness.connect(HALF_HEAD)
    assert not closed(other)
    assert len(harness.clients) == 9
    for number in range(30):
        harness.connect(b"", f"127.0.1.{number}")
    assert len(harness.clients) == 16
    assert closed(other)


def test_behind_proxies_only_the_bound_of_all_counts() -> None:
    settings = load(
        {"MAILBBGUN_API_CONNECTIONS": "16", "MAILBBGUN_API_CONNECTIONS_PER_ADDRESS": "8", "MAILBBGUN_PROXIES": "1"}
    )
    with Harness(limits_of(settings, 75.0)) as harness:
        for _ in range(30):
            harness.connect(HALF_HEAD)
            harness.now += 0.001
        assert len(harness.clients) == 16
        served(harness)


@pytest.mark.parametrize(
    "sent", [HALF_HEAD, b"P", HALF_BODY, b"POST /messages HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", CHUNKED]
)
def test_a_late_head_or_body_gets_408(harness: Harness, sent: bytes) -> None:
    line = harness.connect(sent)
    harness.later(19)
    assert not closed(line)
    line.settimeout(PATIENCE)
    harness.later(2)
    status, error = answer(line)
    assert (status, error["status"], error["code"]) == (408, 408, "request_timeout")
    assert ("head" in error["message"]) == (sent in (HALF_HEAD, b"P"))


def test_a_connection_without_a_request_is_closed_silently(harness: Harness) -> None:
    silent, idle = harness.connect(), served(harness)
    harness.later(21)
    assert closed(silent)
    assert not closed(idle)
    harness.later(55)
    assert closed(idle)


def test_a_head_that_drips_is_late_however_often_a_byte_comes(harness: Harness) -> None:
    line = served(harness)
    for byte in GET[:21]:
        line.sendall(bytes([byte]))
        harness.settle()
        harness.later(1)
    assert answer(line)[0] == 408


def test_a_body_that_keeps_the_pace_has_time_and_one_that_drips_has_not(harness: Harness) -> None:
    honest, dripping = harness.connect(HALF_BODY), harness.connect(HALF_BODY)
    for step in range(30):
        honest.sendall(b"x" * (SLOWEST_RATE * 7))
        if step < 3:
            dripping.sendall(b"x" * 100)
        harness.settle()
        harness.later(6)
    status, error = answer(dripping)
    assert (status, error["message"]) == (408, "The body came too slowly: less than 81920 bytes in 20 s.")
    sent = 3 + 30 * SLOWEST_RATE * 7
    honest.sendall(b"x" * (1_000_000 - sent))
    harness.settle()
    assert honest.recv(100).startswith(b"HTTP/1.1 200")


def test_no_body_takes_longer_than_the_longest_whatever_its_pace() -> None:
    with Harness(replace(LIMITS, transfer=60.0)) as harness:
        line = harness.connect(HALF_BODY)
        for _ in range(9):
            line.sendall(b"x" * (SLOWEST_RATE * 20))
            harness.settle()
            harness.later(10)
        status, error = answer(line)
        assert (status, error["message"]) == (408, "The request's body did not come within 60 s.")


def test_an_answer_is_sent_to_whoever_reads_it_slowly_and_not_to_whoever_does_not() -> None:
    with Harness(answer=LARGE_ANSWER) as harness:
        slow, deaf = (harness.connect(GET, receive=16_384) for _ in range(2))
        received = b""
        while len(received) < len(LARGE_ANSWER):
            before = len(received)
            while len(received) < min(before + SLOWEST_RATE * 40, len(LARGE_ANSWER)):
                received += slow.recv(65_536)
                harness.settle()
            harness.later(19)
        assert received == LARGE_ANSWER
        with pytest.raises(ConnectionResetError):
            deaf.makefile("rb").read()


def test_large_bodies_and_answers_are_bounded_together() -> None:
    with Harness(replace(LIMITS, buffers=250_000, connections_per_address=100, connections=100)) as harness:
        small = harness.connect(HALF_BODY)
        lines = []
        for _ in range(4):
            lines.append(harness.connect(HALF_BODY))
            lines[-1].sendall(b"x" * 100_000)
            harness.settle()
            harness.later(1)
        assert [closed(line) for line in [small, *lines]] == [False, True, True, False, False]


@pytest.mark.parametrize("together", [True, False])
def test_pipelined_requests_are_not_kept_beyond_the_bound_of_all(together: bool) -> None:
    ahead = GET * (60_000 // len(GET))
    with Harness(
        replace(LIMITS, buffers=1_000_000, connections_per_address=100, connections=100), answer=None
    ) as harness:
        lines = [harness.connect(GET + ahead if together else GET) for _ in range(50)]
        for line in lines:
            line.sendall(ahead)
        harness.settle()
        kept = sum(connection.incoming.held for connection in harness.server.served)
        assert kept < 1_000_000 + len(ahead)
        assert (kept > 0) == together
        assert len(harness.server.served) == len(harness.clients) == len(lines)
        for connection, line in zip(list(harness.server.served), lines, strict=True):
            harness.clients.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep_alive=True)
            assert line.recv(100).startswith(b"HTTP/1.1 200")
            assert not connection.cut or closed(line)


def test_a_request_sent_while_another_is_served_is_served_after_it(harness: Harness) -> None:
    harness.server.answer = None
    line = harness.connect(GET)
    line.sendall(GET + GET)
    harness.settle()
    for number in range(3):
        assert len(harness.server.served) == number + 1
        harness.clients.send(
            harness.server.served[-1], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep_alive=True
        )
        harness.settle()
        assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_hangs_up_while_it_is_served_is_noticed(harness: Harness) -> None:
    harness.server.answer = None
    line = harness.connect(GET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    line.close()
    harness.settle()
    assert harness.server.served[0].broken


def test_without_file_descriptors_and_a_connection_to_close_the_poller_rests(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = 0

    def counted(listener: socket.socket, accept: Any = socket.socket.accept) -> Any:
        nonlocal accepted
        accepted += 1
        return accept(listener)

    harness.server.answer = None
    harness.connect(GET)
    line = harness.sources.enter_context(socket.socket())
    line.settimeout(PATIENCE)
    lowest = os.dup(harness.listener.fileno())
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        line.connect(harness.listener.getsockname())
        monkeypatch.setattr(socket.socket, "accept", counted)
        for tried in (1, 2):
            harness.settle()
            assert accepted == tried
            harness.listeners.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    harness.server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    line.sendall(GET)
    harness.listeners.open()
    harness.settle()
    assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_what_comes_after_an_answer_that_ends_the_connection_is_read_but_not_for_ever(harness: Harness) -> None:
    line = harness.connect(b"PUT /x HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 30_000)
    for _ in range(20):
        line.sendall(b"x" * SMALL)
        harness.settle()
    assert answer(line)[0] == 413
    assert len(harness.clients) == 1
    harness.later(3)
    assert len(harness.clients) == 0


def test_a_stopping_server_ends_idle_connections_at_once_and_half_requests_soon() -> None:
    with Harness(answer=None) as harness:
        busy, half, silent = (harness.connect(sent) for sent in (GET, HALF_HEAD, b""))
        harness.later(19)
        harness.clients.stop()
        assert closed(silent)
        assert not closed(half)
        half.settimeout(PATIENCE)
        harness.later(1)
        assert not closed(half)
        half.settimeout(PATIENCE)
        harness.later(2)
        assert answer(half)[0] == 408
        harness.clients.send(harness.server.served[0], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep_alive=True)
        assert busy.recv(100).startswith(b"HTTP/1.1 200")
        assert closed(busy)


def test_pipelined_requests_of_one_client_do_not_delay_others() -> None:
    with Harness() as harness:
        greedy, modest = harness.connect(), harness.connect()
        greedy.sendall(GET * 500)
        modest.sendall(GET)
        while len(harness.server.served) < 501:
            harness.poller.turn(0.01)
        assert modest.recv(100).startswith(b"HTTP/1.1 200")
        assert modest.getsockname() in [connection.client for connection in harness.server.served[:3]]
