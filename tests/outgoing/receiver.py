"""HTTP servers that tests send requests to: each connection is answered as a script says."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

from tests.waiting import PATIENCE

#: Answers one connection. It returns when the connection is to be closed.
Script = Callable[[socket.socket], None]


class Receiver:
    """A listener on 127.0.0.1 (or ``host``). A context manager. ``requests`` has all that were read."""

    def __init__(self, script: "Callable[[Receiver, socket.socket], None]", host: str = "127.0.0.1") -> None:
        self._script = script
        self._listener = socket.create_server((host, 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopped = threading.Event()
        self.context: ssl.SSLContext | None = None
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def url(self, host: str = "127.0.0.1", path: str = "/hook", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def read(self, connection: socket.socket) -> bytes:
        """Return one whole request; nothing if the client has closed the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the context was left
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client, or the end of the test, has closed it
            connection.settimeout(PATIENCE)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self._script(self, connection)


def answering(answer: bytes) -> Callable[[Receiver, socket.socket], None]:
    """Return a script that gives this answer to each request of a connection."""

    def script(receiver: Receiver, connection: socket.socket) -> None:
        while receiver.read(connection):
            connection.sendall(answer)

    return script


def trickling(begin: bytes, drop: bytes) -> Callable[[Receiver, socket.socket], None]:
    """Return a script that begins an answer, and sends a few bytes more every now and then, for ever."""

    def script(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read(connection)
        connection.sendall(begin)
        while not receiver.stopped.wait(0.05):
            connection.sendall(drop)

    return script
