"""An SMTP server in one thread that takes messages of many connections at once and keeps none of them."""

import math
import selectors
import socket
import threading
from types import TracebackType

from tests.waiting import PATIENCE

_ANSWERS = {b"EHLO": b"250-peer.test\r\n250 8BITMIME\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
_END = b"\r\n.\r\n"


class Conversation:
    """One connection. `octets` counts what came of its message, `done` says whether it has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.octets = 0
        self.done = self._in_message = False
        self._held = b""

    def take(self, octets: bytes) -> None:
        if self._in_message:
            self.octets += len(octets)
            self._held = (self._held + octets)[-len(_END) :]
            if self._held == _END:
                self.done, self._in_message, self._held = True, False, b""
                self.connection.sendall(b"250 2.0.0 queued\r\n")
            return
        *lines, self._held = (self._held + octets).split(b"\r\n")
        for line in lines:
            self._in_message = line == b"DATA"
            self.connection.sendall(_ANSWERS.get(line[:4], b"250 ok\r\n"))


class Swallower:
    """Listens on `port` of 127.0.0.1; use as a context manager. `conversations` has all there were.

    Of a message longer than `pause_at` octets it reads no more than about that until `go_on` is called.
    """

    def __init__(self, pause_at: float = math.inf) -> None:
        self._pause_at, self._paused = pause_at, list[Conversation]()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.conversations: list[Conversation] = []

    def __enter__(self) -> "Swallower":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.send(b".")
        self._thread.join(PATIENCE)

    def go_on(self) -> None:
        """Read what is left of the messages that were paused, and pause none from now on."""
        self._pause_at = math.inf
        self._stop.send(b"+")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stopping, selectors.EVENT_READ)
            told = b""
            while told != b".":
                for key, _ in selector.select():
                    if key.fileobj is self._stopping:
                        told = self._stopping.recv(1)
                        for paused in self._paused:
                            selector.register(paused.connection, selectors.EVENT_READ, paused)
                        self._paused.clear()
                    elif key.fileobj is self._listener:
                        connection, _ = self._listener.accept()
                        self.conversations.append(Conversation(connection))
                        selector.register(connection, selectors.EVENT_READ, self.conversations[-1])
                        connection.sendall(b"220 peer.test\r\n")
                    elif octets := key.data.connection.recv(65536):
                        key.data.take(octets)
                        if key.data.octets > self._pause_at:
                            selector.unregister(key.data.connection)
                            self._paused.append(key.data)
                    else:
                        selector.unregister(key.data.connection)
        for end in (self._listener, self._stopping, self._stop, *(one.connection for one in self.conversations)):
            end.close()
