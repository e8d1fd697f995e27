"""A poller and its connections on a port of their own, with a clock that the test sets."""

import json
import logging
import socket
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types

from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.server.accepting import Listeners
from mailbbgun.server.bodies.spool import SpoolFolder, SpoolThread
from mailbbgun.server.client_limits import ServerLimits, limits_of
from mailbbgun.server.clients import Clients
from mailbbgun.server.poller import Poller
from mailbbgun.server.refusal import Refusal
from mailbbgun.server.registry import ClientConnection
from mailbbgun.settings.load import load
from tests.waiting import PATIENCE

log = logging.getLogger(__name__)
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds, so a close resets the connection
HALF_HEAD = b"GET /x HTTP/1.1\r\nX"
HALF_BODY = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc"
CHUNKED = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"
LARGE_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000
UPLOAD_LIMIT = BodyLimit(10_000_000, "MAX_FILE_SIZE")
LIMITS = limits_of(load({"MAILBBGUN_API_CONNECTIONS": "16", "MAILBBGUN_API_CONNECTIONS_PER_ADDRESS": "8"}), 75.0)


class Answering:
    """Answers each request with ``answer``. If that is None, requests stay being served."""

    clients: Clients

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.served: list[ClientConnection] = []
        self.admitting: list[ClientConnection] = []
        self.requests: list[Any] = []

    def serve(self, connection: ClientConnection, request: Any) -> None:
        self.served.append(connection)
        self.requests.append(request)
        if self.answer is not None:
            self.clients.send(connection, self.answer, keep_alive=True)

    def upload_limit(self, request: Any) -> BodyLimit | None:
        """Take requests to /upload for uploads."""
        return UPLOAD_LIMIT if request.path == "/upload" else None

    def admit(self, connection: ClientConnection, _request: Any) -> None:
        self.admitting.append(connection)

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        log.info("%s %s", connection.client, refusal)


@dataclass
class Harness:
    """A poller with its connections, on a port of its own."""

    limits: ServerLimits = LIMITS
    answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    now: float = 1000.0
    sources: ExitStack = field(default_factory=ExitStack)
    folder: Path = Path("/nonexistent")  # of the spools

    def __post_init__(self) -> None:
        self.listener = self.sources.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self.poller = Poller(lambda: pytest.fail("an error in the poller"))
        self.server = Answering(self.answer)
        self.room = SpoolFolder(self.folder, self.limits.spools)
        self.spools = SpoolThread(self.room, self.poller.call)
        self.server.clients = self.clients = Clients(
            Config(), self.limits, self.poller, self.server, log, self.spools, lambda: self.now
        )
        self.listeners = Listeners(self.poller, self.clients, [self.listener])
        self.listeners.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clients.close_all()
        for connection in self.server.served + self.server.admitting:
            self.clients.close(connection)
        self.spools.close()
        self.poller.close()
        self.sources.close()

    def connect(self, sent: bytes = b"", source: str = "127.0.0.1", receive: int = 0) -> socket.socket:
        """Return a new connection that has sent these bytes. The poller has read them."""
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
        """Let the poller work until it has nothing left to do."""
        for _ in range(12):
            self.poller.turn(0)

    def later(self, seconds: float) -> None:
        """Set the clock forward, and let late connections end."""
        self.now += seconds
        while self.clients.end_late():
            self.settle()
        self.settle()


def closed(line: socket.socket) -> bool:
    """Return whether the server has closed a connection without a response."""
    line.settimeout(0.05)
    try:
        return line.recv(65_536) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def read_all(harness: Harness, line: socket.socket, size: int) -> None:
    """Read so many bytes while the poller sends them."""
    line.setblocking(False)
    while size:
        harness.settle()
        with suppress(BlockingIOError):
            size -= len(line.recv(size))


def answer(line: socket.socket) -> tuple[int, Any]:
    """Return status and error of a response that ends the connection."""
    received = b""
    while piece := line.recv(65_536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def served(harness: Harness, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection that has had a response and is idle."""
    line = harness.connect(GET, source)
    assert line.recv(65_536).startswith(b"HTTP/1.1 200")
    return line
