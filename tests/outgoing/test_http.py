"""Rows S14 and S15: the HTTP client reaches only permitted hosts, and always comes to an end."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from select import select
from typing import Protocol

import pytest

from mailbbgun.core.errors import NotPermitted
from mailbbgun.core.net import Allowed, Guard, LookUp, system_look_up
from mailbbgun.outgoing.http import KEPT, HTTPClient, NoHTTPAnswer
from mailbbgun.outgoing.urls import WEB_PORTS
from tests.outgoing.receiver import Receiver, answering, trickling
from tests.smtp.authority import Authority
from tests.tenants.canary import Canary
from tests.waiting import PATIENCE, bounded, pause

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Tests reach only this machine: 127.0.0.2 is allowed and stands for a public address; 127.0.0.1 is not.
PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"


class Client(Protocol):
    """Makes a client that is closed when the test has ended."""

    def __call__(self, look_up: LookUp = system_look_up, *allowed: str, ca_file: str = "") -> HTTPClient: ...


@pytest.fixture
def client() -> Iterator[Client]:
    made: list[HTTPClient] = []

    def make(look_up: LookUp = system_look_up, *allowed: str, ca_file: str = "") -> HTTPClient:
        made.append(HTTPClient(Guard(WEB_PORTS, Allowed.read(allowed or ["127.0.0.0/8"]), look_up), ca_file))
        return made[-1]

    yield make
    for one in made:
        one.close()


def post(one: HTTPClient, url: str, timeout: float = PATIENCE, **more: bool) -> tuple[int, bytes]:
    answer = one.post(url, b'{"a": 1}', {"Content-Type": "application/json", "webhook-id": "x"}, timeout, **more)
    assert answer.seconds >= 0
    return answer.status, answer.body


def failure(one: HTTPClient, url: str, timeout: float = PATIENCE) -> NoHTTPAnswer:
    with bounded("the request"), pytest.raises(NoHTTPAnswer) as caught:
        post(one, url, timeout)
    assert str(caught.value).isprintable()
    return caught.value


def test_a_request_is_sent_as_given_and_connections_are_used_again(client: Client) -> None:
    with Receiver(answering(OK)) as server:
        ours = client()
        for _ in range(3):
            assert post(ours, server.url(path="/hook?a=b%20c")) == (200, b"ok")
        assert server.connections == 1
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().splitlines()
        assert lines[0] == "POST /hook?a=b%20c HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}" in lines
        assert {"webhook-id: x", "Accept-Encoding: identity"} <= set(lines)
        assert not any(line.startswith(("User-Agent: python", "Cookie")) for line in lines)
        assert body == b'{"a": 1}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(client: Client, status: int) -> None:
    with Canary() as inner:
        to = f"HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:{inner.port}/\r\nContent-Length: 0\r\n\r\n"
        with Receiver(answering(to.encode()), host=PUBLIC) as server:
            assert post(client(), server.url(PUBLIC)) == (status, b"")
    assert inner.connections == 0


def test_four_kib_of_a_body_are_kept_and_its_connection_is_used_again_if_it_ends_soon(client: Client) -> None:
    long, endless = b"x" * 9000, b"y" * 10_000_000
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long)
    with Receiver(script) as server, bounded("two requests"):
        ours = client()
        assert [post(ours, server.url()) for _ in range(2)] == [(200, long[:KEPT])] * 2
        assert server.connections == 1
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(endless) + endless)
    with Receiver(script) as server, bounded("two requests"):
        assert [post(ours, server.url()) for _ in range(2)] == [(200, endless[:KEPT])] * 2
        assert server.connections == 2
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Receiver(answering(chunked)) as server:
        assert [post(ours, server.url()) for _ in range(2)] == [(200, b"abcde")] * 2
        assert server.connections == 1


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b""),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "status", "headers", "header", "body", "chunks", "until_close", "continue"],
)
def test_an_answer_that_trickles_ends_in_time(client: Client, begin: bytes, drop: bytes) -> None:
    with Receiver(trickling(begin, drop)) as server:
        found = failure(client(), server.url(), timeout=0.5)
        while not found.sent:  # the machine was too slow to send it
            found = failure(client(), server.url(), timeout=0.5)
    assert (found.why, found.sent) in (("timeout", True), ("broken", True))  # a hundred headers are refused before


@pytest.mark.parametrize("said", [b"", b"220 mx ESMTP\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"\x16\x03\x01"])
def test_what_is_no_http_is_an_error_of_the_receiver(client: Client, said: bytes) -> None:
    def script(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read(connection)
        connection.sendall(said)

    with Receiver(script) as server:
        assert failure(client(), server.url()).why == "broken"


@pytest.mark.parametrize(
    ("said", "answer", "reused"),
    [
        (b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + OK, (200, b"ok"), True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b""), True),
        (OK.replace(b"\r", b""), (200, b"ok"), True),
        (OK.replace(b"1.1", b"1.0"), (200, b"ok"), False),
        (OK + OK, (200, b"ok"), False),  # what follows belongs to no request
        (OK + b"\0garbage", (200, b"ok"), False),
        (OK.replace(b"\r\n\r", b"\r\nConnection: close\r\n\r") + b"x", (200, b"ok"), False),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", (101, b""), False),
    ],
)
def test_an_answer_is_read_to_its_end_and_no_further(
    client: Client, said: bytes, answer: tuple[int, bytes], reused: bool
) -> None:
    with Receiver(answering(said)) as server:
        ours = client()
        assert [post(ours, server.url()) for _ in range(2)] == [answer] * 2
        assert server.connections == (1 if reused else 2)


@pytest.mark.parametrize(
    "said",
    [
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Header: 123456789\r\n" * 5000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        CHUNKED + b"3\r\nabc\r\n0\r\n" + b"X-Header: 123456789\r\n" * 5000 + b"\r\n",
        CHUNKED + b"0\r\nX-Header: " + b"1" * 100_000 + b"\r\n\r\n",
        CHUNKED + b"3;" + b"x" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["short", "chunks", "two_lengths", "headers", "continues", "trailers", "trailer", "extension"],
)
def test_an_answer_without_its_end_or_with_an_endless_head_is_an_error_of_the_receiver(
    client: Client, said: bytes
) -> None:
    def script(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read(connection)
        with suppress(OSError):  # the client has had enough
            connection.sendall(said)

    with Receiver(script) as server:
        assert failure(client(), server.url()).why == "broken"


class Starved(socket.socket):
    """A connection whose process gets no core from when it has sent a request until its time is over."""

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]  # only bytes are sent
        super().sendall(data, flags)
        select([self], [], [])
        pause(0.5)


def test_an_answer_that_came_in_time_counts_although_we_read_it_late(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *to: Starved(fileno=connect(*to).detach()))
    with Receiver(answering(OK)) as server, bounded("the request"):
        ours, found = client(), None
        while found is None:
            with suppress(NoHTTPAnswer):  # the machine was too slow to connect
                found = post(ours, server.url(), timeout=0.5)
        assert found == (200, b"ok")


@pytest.mark.parametrize("field", [b"", b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n"])
def test_a_body_without_a_length_ends_with_its_connection(client: Client, field: bytes) -> None:
    def script(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + field + b"\r\nok")

    with Receiver(script) as server:
        assert post(client(), server.url()) == (200, b"ok")


def test_small_chunks_are_no_endless_head_and_a_trailer_is_no_header(client: Client) -> None:
    with Receiver(answering(CHUNKED + b"1\r\nx\r\n" * 40_000 + b"0\r\nX-Trailer: y\r\n\r\n")) as server:
        ours = client()
        answers = [ours.post(server.url(), b"", {}, PATIENCE) for _ in range(2)]
        assert [(one.status, one.body) for one in answers] == [(200, b"x" * KEPT)] * 2
        assert not any("x-trailer" in one.headers for one in answers)
        assert server.connections == 1


@pytest.mark.parametrize("header", ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0"])
def test_a_header_cannot_begin_another(client: Client, header: str) -> None:
    with Receiver(answering(OK)) as server:
        with pytest.raises(ValueError, match="end of a line"):
            client().post(server.url(), b"", {"X-A": header}, PATIENCE)
        assert server.requests == []


def test_a_kept_connection_that_was_closed_is_replaced(client: Client) -> None:
    def once(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read(connection)
        connection.sendall(OK)
        receiver.read(connection)  # the server takes another request and closes the connection without an answer

    with Receiver(once) as server:
        ours = client()
        assert [post(ours, server.url(), repeatable=True) for _ in range(3)] == [(200, b"ok")] * 3
        assert failure(ours, server.url()).sent  # it was not said to be repeatable


def test_each_step_that_fails_has_its_name(client: Client) -> None:
    with socket.create_server((PRIVATE, 0)) as closed:
        port = closed.getsockname()[1]
    assert failure(client(), f"http://127.0.0.1:{port}/").why == "connect"

    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert failure(client(unknown), "http://no.example/").why == "dns"
    silent = threading.Event()

    def waiting(_host: str, _port: int) -> Sequence[str]:
        silent.wait(PATIENCE)
        return ["127.0.0.1"]

    assert failure(client(waiting), "http://silent.example/", timeout=0.2).why == "timeout"
    silent.set()


def test_a_certificate_must_be_the_hosts_and_of_a_known_authority(client: Client, tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def look_up(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with Receiver(answering(OK)) as server:
        server.context = authority.server("hooks.example.com", "127.0.0.1")
        ours = client(look_up, ca_file=authority.ca_file)
        assert post(ours, server.url("hooks.example.com", scheme="https")) == (200, b"ok")
        assert post(ours, server.url("127.0.0.1", scheme="https")) == (200, b"ok")
        assert f"Host: hooks.example.com:{server.port}".encode() in server.requests[0]
        assert failure(ours, server.url("other.example.com", scheme="https")).why == "tls"
        assert failure(client(look_up), server.url("hooks.example.com", scheme="https")).why == "tls"
        server.context = authority.server("hooks.example.com", expired=True)
        fresh = client(look_up, ca_file=authority.ca_file)
        assert failure(fresh, server.url("hooks.example.com", scheme="https")).why == "tls"
        assert len(server.requests) == 2
    with Receiver(lambda _, connection: connection.sendall(OK)) as plain:
        assert failure(ours, plain.url("hooks.example.com", scheme="https")).why in ("tls", "connect")


@pytest.mark.parametrize("questions", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_dns_that_changes_its_answer_reaches_no_private_address(client: Client, questions: int) -> None:
    """The first answers alternate; each connection goes to an address of the one answer that was judged."""
    answers: Iterator[Sequence[str]] = cycle([[PUBLIC], [PRIVATE], [PRIVATE, PUBLIC]])
    lock = threading.Lock()

    def alternating(_host: str, _port: int) -> Sequence[str]:
        with lock:
            return next(answers)

    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Receiver(answering(closing), host=PUBLIC) as server, Canary(port=server.port) as inner:
        ours, reached = client(alternating, PUBLIC), 0
        for _ in range(questions):
            with suppress(NotPermitted):
                reached += post(ours, server.url("rebinding.example"))[0] == 200
    assert reached == questions - (questions + 1) // 3  # the second of three answers is private
    assert inner.connections == 0
