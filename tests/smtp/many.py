"""A server for thousands of connections in one thread: it greets, and sends back what it gets."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType

from tests.waiting import PATIENCE

GREETING = b"220 hello\r\n"


class Echo:
    """Listens on `port` of 127.0.0.1; use as a context manager. `most` counts connections open at once."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._open: set[socket.socket] = set()
        self.most = self.total = 0

    def __enter__(self) -> "Echo":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.send(b".")
        self._thread.join(PATIENCE)

    def say(self, octets: bytes) -> None:
        """Say something on every connection, unasked."""
        for connection in list(self._open):
            connection.send(octets)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stopping, selectors.EVENT_READ)
            stopped = False
            while not stopped:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif key.fileobj is self._stopping:
                        stopped = True
                    else:
                        self._echo(selector, key.fileobj)  # type: ignore[arg-type]  # a socket was registered
        for end in (self._listener, self._stopping, self._stop, *self._open):
            end.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ)
                self._open.add(connection)
                self.total += 1
                self.most = max(self.most, len(self._open))
                with contextlib.suppress(ConnectionError):  # reset already
                    connection.send(GREETING)

    def _echo(self, selector: selectors.BaseSelector, connection: socket.socket) -> None:
        try:
            octets = connection.recv(65536)
        except OSError:
            octets = b""
        if octets:
            with contextlib.suppress(OSError):
                connection.send(octets)
        else:
            selector.unregister(connection)
            self._open.discard(connection)
            connection.close()
