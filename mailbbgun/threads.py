"""gunicorn's thread worker, made for short requests: more than half of their CPU was spent handing them between threads.

A thread that waits for anything gives up the interpreter, and to get it back among sixteen others costs two switches of the processor: for each
wait, and for each call that only might wait. So a request should have few: one to receive it, one to be stored, one to answer.
"""

import socket
import struct
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

LINGER = struct.pack("ll", 0, 5000)  # seconds and µs that a thread stays with a connection for its next request
FOR_EVER = struct.pack("ll", 0, 0)
READ = 65_536  # bytes at once


class Worker(ThreadWorker):
    """The gthread worker, but a thread stays with a client that asks again at once. gunicorn takes it back to the thread that polls."""

    def handle(self, conn: Any) -> Any:
        """Serve a connection's request, and those that follow at once while no other connection waits for a thread."""
        if not isinstance(conn.sock, Socket):
            conn.sock = Socket(fileno=conn.sock.detach())
        while (again := super().handle(conn)) is True and self.alive and not self.tpool._work_queue.qsize():
            if not (asked := conn.sock.linger()):
                break
            conn.parser.unreader.unread(asked)
        return again


class Socket(socket.socket):
    """A socket that tells the kernel of a time limit when it is read or written, and not each time one is set."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        super().setblocking(True)
        self._limit: float | None = None  # what was asked for
        self._told: float | None = None  # what the kernel knows

    def settimeout(self, value: float | None) -> None:
        self._limit = value

    def setblocking(self, flag: bool) -> None:
        self._limit = None if flag else 0.0

    def gettimeout(self) -> float | None:
        return self._limit

    def recv(self, *args: Any) -> bytes:
        self._tell()
        return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        self._tell()
        super().sendall(*args)

    def linger(self) -> bytes:
        """Return what comes within 5 ms; nothing if nothing does, or the other side is gone."""
        self._tell()
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, LINGER)
        try:
            return super().recv(READ)
        except OSError:  # nothing came; what else there may be, who reads next will meet
            return b""
        finally:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, FOR_EVER)

    def _tell(self) -> None:
        if self._limit != self._told:
            super().settimeout(self._limit)
            self._told = self._limit


class Response(wsgi.Response):
    """An answer whose head leaves with the first piece of its body."""

    def write(self, arg: bytes) -> None:
        """Write a piece of the body."""
        if self.headers_sent:
            super().write(arg)
            return
        sock, self.sock = self.sock, _Pieces()
        try:
            super().write(arg)
            pieces = self.sock
        finally:
            self.sock = sock
        sock.sendall(b"".join(pieces))


class _Pieces(list[bytes]):
    sendall = list.append
