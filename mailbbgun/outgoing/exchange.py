"""One HTTP/1.1 request and its answer over a connection that is open, before a deadline.

llhttp reads the answer, by httptools: it is written in C, and an answer to a webhook has cost more to read than all
else about its event.
"""

import errno
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mailbbgun.outgoing.connections import left
from mailbbgun.outgoing.urls import Target

#: Bytes of the head of an answer, with all headers, and of its trailers, at most.
LONGEST_HEAD = 65_536
#: Bytes of one read. The last one of a head may have the beginning of a body, too.
_READ = 16_384
#: Bytes that come for each one of a body, at most, beside a head: a chunk of one byte is six. What is beyond is in
#: trailers or in extensions of chunks, which have no length of their own.
_FOR_EACH = 8
#: Seconds for one more read at the deadline: a process of low priority may look late at what came in time.
_LAST_LOOK = 0.01
#: The answer to a request for another protocol, which we never ask for. Other statuses below 200 precede the answer.
_SWITCHING = 101


class NoHTTP(OSError):
    """What a server has said is no HTTP, or its end is missing."""


def request(to: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a POST. Raises ``UnicodeError`` and ``ValueError`` for a header that HTTP cannot carry."""
    host = f"[{to.host}]" if ":" in to.host else to.host
    if to.port != (443 if to.secure else 80):
        host = f"{host}:{to.port}"
    given = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if given.count("\r") != len(headers) or given.count("\n") != len(headers) or "\0" in given:
        raise ValueError("a header has the end of a line in it")
    start = f"POST {to.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    return f"{start}{given}\r\n".encode("latin-1") + body


class HTTPExchange:
    """One request and its answer. ``status`` and ``headers`` (names in lower case) are the answer's.

    ``reusable``: the connection may be used for another request.
    """

    def __init__(self, keep: int, drain: int) -> None:
        """``keep``: most bytes of the body that are kept; ``drain``: those that are read and thrown away."""
        self.status, self.reusable = 0, False
        self.headers: dict[str, str] = {}
        self._body = bytearray()
        self._keep, self._most = keep, keep + drain
        self._came = self._read = 0  # bytes that came in all, and of the body
        self._in_body = self._complete = False
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # RFC 9112 §2.2

    @property
    def body(self) -> bytes:
        """The beginning of the answer's body."""
        return bytes(self._body)

    def run(self, sock: socket.socket, sent: bytes, deadline: float) -> None:
        """Send a request and read the answer. Raises ``OSError``; ``TimeoutError`` at the deadline."""
        try:
            self._run(sock, sent, deadline)
        finally:
            del self._parser  # it refers to us, and only garbage collection would find that

    def _run(self, sock: socket.socket, sent: bytes, deadline: float) -> None:
        sock.settimeout(left(deadline))
        with suppress(BrokenPipeError):  # it may have answered before it had read all
            sock.sendall(sent)
        late = False
        while not self._complete and self._read <= self._most:
            if late:
                raise TimeoutError("timed out")
            seconds = deadline - time.monotonic()
            late = seconds <= 0
            sock.settimeout(max(seconds, _LAST_LOOK))
            data = sock.recv(_READ)
            if not data:
                self._ended()
                return
            self._feed(data)
        self.reusable = self.reusable and self._complete

    def _feed(self, data: bytes) -> None:
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.reusable = False
        except HttpParserError as error:
            self.reusable = False
            if not self._complete:
                raise NoHTTP(errno.EPROTO, str(error)) from error
        if self._came > LONGEST_HEAD + _READ + _FOR_EACH * self._read:
            raise NoHTTP(errno.EPROTO, f"more than {LONGEST_HEAD} bytes of headers")

    def _ended(self) -> None:
        """The server has closed the connection: that is the end of a body whose length was not told."""
        self.reusable = False
        told = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self._in_body or told:
            raise NoHTTP(errno.EPROTO, "the end of the answer is missing")

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Note that bytes follow the answer, which belong to no request."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the answer. A trailer is none (RFC 9110 §6.5.1)."""
        if not self._in_body:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Keep the status, unless it only precedes the answer (RFC 9110 §15.2)."""
        if self._complete:
            return
        self.status = self._parser.get_status_code()
        self._in_body = self.status >= 200
        self.reusable = self._in_body and self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep the beginning of the body."""
        if self._complete:
            return
        self._read += len(data)
        if len(self._body) < self._keep:
            self._body += data[: self._keep - len(self._body)]

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._in_body or self.status == _SWITCHING:
            self._complete = True
        else:
            self.headers.clear()
