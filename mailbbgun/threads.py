"""gunicorn's thread worker for short requests: more than half of their CPU went into handing them from thread to thread.

A thread that calls the kernel gives up the interpreter, and among sixteen others getting it back costs two switches of the processor. So a request
should have few such calls: one to receive it, one to wait until it is stored, one to answer.
"""

import socket
import struct
from typing import Any

from gunicorn.http import wsgi  # type: ignore[import-untyped]  # it has no types
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # nor has this

LINGER = struct.pack("ll", 0, 5000)  # seconds and µs that a thread stays with a connection for its next request
FOR_EVER = struct.pack("ll", 0, 0)
READ = 65_536  # bytes at once


class Worker(ThreadWorker):  # type: ignore[misc]  # no types
    """The gthread worker, but a thread stays with a client that asks again at once instead of giving it back to the thread that polls."""

    def handle(self, conn: Any) -> Any:
        """Serve a connection's request, and those that follow at once while no other connection waits for a thread."""
        if not conn.initialized and not isinstance(conn.sock, Socket):
            conn.sock = Socket(fileno=conn.sock.detach())
        while (again := super().handle(conn)) is True and self.alive and not self.tpool._work_queue.qsize():
            ahead = conn.parser.unreader
            if ahead.buf.getvalue():
                continue  # it has come already, with the last one
            asked = conn.sock.linger() if isinstance(conn.sock, Socket) else b""  # TLS makes another one of it
            if not asked:
                break
            ahead.unread(asked)
        return again


class Socket(socket.socket):
    """A socket that tells the kernel of a time limit when it is used, not each time that one is set."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        super().setblocking(True)
        self._limit: float | None = None  # what was asked for
        self._told: float | None = None  # what the kernel knows

    def settimeout(self, value: float | None) -> None:
        """Remember it."""
        self._limit = value

    def setblocking(self, flag: bool) -> None:
        """Remember it."""
        self._limit = None if flag else 0.0

    def gettimeout(self) -> float | None:
        """Return what was asked for."""
        return self._limit

    def recv(self, *args: Any) -> bytes:
        """Receive within the limit."""
        self._tell()
        return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        """Send within the limit."""
        self._tell()
        super().sendall(*args)

    def linger(self) -> bytes:
        """Return what comes within 5 ms; nothing if nothing does, or the other side is gone."""
        self._tell()
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, LINGER)
        try:
            return super().recv(READ)
        except OSError:  # nothing came; and what else there may be, who reads next will meet
            return b""
        finally:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, FOR_EVER)

    def _tell(self) -> None:
        if self._limit != self._told:
            super().settimeout(self._limit)
            self._told = self._limit


class Response(wsgi.Response):  # type: ignore[misc]  # no types
    """An answer whose head leaves with the first piece of its body."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """Write a piece of the body."""
        if self.headers_sent:
            super().write(arg)
            return
        sock, pieces = self.sock, _Pieces()
        self.sock = pieces
        try:
            super().write(arg)
        finally:
            self.sock = sock
        sock.sendall(b"".join(pieces))


class _Pieces(list[bytes]):
    sendall = list.append
