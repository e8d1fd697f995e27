"""Listeners that nothing may connect to: they count connections and keep what was sent."""

import contextlib
import socket
import threading

from tests.waiting import PATIENCE


class Canary:
    """A listener on `host`:`port` (0: a free port). A context manager.

    It greets with `says` and keeps each connection open until the other end closes it.
    `connections` is their number, `heard` all octets that they sent. Both are final once the
    context is left, which waits for all earlier connections.
    """

    def __init__(self, says: bytes = b"", host: str = "127.0.0.1", port: int = 0) -> None:
        self.says = says
        self.host = host
        self.port = port
        self.connections = 0
        self.heard = b""

    def __enter__(self) -> "Canary":
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=100)
        self.port = self._listener.getsockname()[1]
        self._last = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(self._listener.family) as last:
            last.bind((self._listener.getsockname()[0], 0))
            self._last = last.getsockname()[1]
            last.connect((self.host, self.port))  # connections in the backlog are served first
            self._thread.join(PATIENCE)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, sender = self._listener.accept()
            with connection:
                if sender[1] == self._last:
                    return
                self.connections += 1
                connection.settimeout(PATIENCE)
                with contextlib.suppress(OSError):  # a reset: nothing more is coming
                    connection.sendall(self.says)
                    while octets := connection.recv(65536):
                        self.heard += octets
