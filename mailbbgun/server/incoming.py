"""Parses what one client sends: bytes go in, complete requests come out. Knows no sockets."""

import re
from collections.abc import Callable
from typing import Any

from gunicorn.http.body import ChunkedReader  # type: ignore[import-untyped]  # it has no types
from gunicorn.http.errors import InvalidHeader  # type: ignore[import-untyped]  # nor has this
from gunicorn.http.message import Request  # type: ignore[import-untyped]  # nor this
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]  # nor this

from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.server.bodies.chunked import FEW, ChunkedBody
from mailbbgun.server.bodies.content import BodyContent, InMemory
from mailbbgun.server.bodies.sized import SizedBody
from mailbbgun.server.bodies.spool import Spool
from mailbbgun.server.client_limits import LONGEST_HEAD, SMALL
from mailbbgun.server.refusal import BARE_LF, Refusal, check_transfer_coding, refusal_of, too_large, unknown_version

_END = b"\r\n\r\n"
_SMALL_POST = re.compile(rb"POST [^ ?]*/messages HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE)
_FIRST_BYTES = re.compile(rb"[\r!#$%&'*+.^_`|~0-9A-Za-z-]")
_TLS = b"\x16"  # the type of a handshake record (RFC 8446 §5.1)


def size_of_small_post(received: bytes | bytearray, end: int) -> int:
    """Return the size of a request that looks like a small ``POST …/messages``; 0 for any other.

    Its head ends at ``end``. This is only a guess, so that the quick way (``accept/quick.py``) gets
    the request as a whole. gunicorn's parser decides what the request is.
    """
    length = _LENGTH.search(received, 0, end)
    if length is None or not _SMALL_POST.match(received) or _NOT_PLAIN.search(received, 0, end):
        return 0
    size = end + int(length[1])
    return size if size <= SMALL else 0


class BegunUpload:
    """The head of an upload. Nothing of the body is taken before :meth:`Incoming.take_body`."""

    def __init__(self, request: Any) -> None:
        self.request = request  # gunicorn's


class Incoming:
    """The requests of one connection, one after the other.

    ``client`` is the client's address, as ``accept`` returned it. ``upload_limit`` returns the limit
    of the body of a request that is an upload; None for any other. A method that returns a request
    returns one of these, or raises :class:`Refusal`:

    - bytes: a whole small ``POST …/messages``, for the quick way. If that declines it, call
      :meth:`parse`.
    - a :class:`BegunUpload`. Call :meth:`take_body` once the client may send the body.
    - gunicorn's request, with a body that can be read; that of an upload is a :class:`Spool`.
    - None: more bytes must come. If :attr:`has_more`, they are here already: call :meth:`next`.
    """

    def __init__(
        self,
        cfg: Any,
        client: Any,
        body_limit: int,
        upload_limit: Callable[[Any], BodyLimit | None] = lambda _: None,
    ) -> None:
        self._cfg = cfg
        self._client = client
        self._body_limit = BodyLimit(body_limit)
        self._upload_limit = upload_limit
        self._received: bytes | bytearray = b""
        self._searched = 0  # received bytes that contain no end of a head
        self._size = 0  # bytes of the small POST that is coming
        self._request: Any = None  # the request whose body is coming
        self._body: SizedBody | ChunkedBody | None = None
        self._spool: Spool | None = None  # the content of the upload that is coming
        self._continue_expected = False  # the client waits for 100 Continue
        self._number = 0

    @property
    def held(self) -> int:
        """Bytes kept."""
        return len(self._received) + (self._body.held if self._body else 0)

    @property
    def in_body(self) -> bool:
        """Whether a whole head has come, but not its body."""
        return self._body is not None or self._size > 0

    @property
    def has_more(self) -> bool:
        """Whether more of a body has come than was taken in one turn.

        :meth:`next` takes more of it.
        """
        return self._body is not None and bool(self._received)

    @property
    def request(self) -> Any:
        """gunicorn's request whose body is coming; None if there is none."""
        return self._request

    @property
    def read_size(self) -> int:
        """How many bytes to take at once."""
        return self._body.read_size if self._body else SMALL

    @property
    def full_spool(self) -> Spool | None:
        """The spool of an upload, if it must be flushed before more bytes are taken."""
        return self._spool if self._spool is not None and self._spool.full else None

    def expects_continue(self) -> bool:
        """Return whether the client waits for ``100 Continue`` (RFC 9110 §10.1.1).

        True only once.
        """
        if self._body is None or not self._continue_expected:
            return False
        self._continue_expected = False
        return self._body.held == 0 and self._body.content.tell() == 0

    def take_body(self, spool: Spool) -> None:
        """Take the body of the begun upload into a spool. Then call :meth:`next`."""
        assert self._body is not None
        self._body.content = self._spool = spool

    def drop_upload(self) -> None:
        """Remove what has come of an upload whose body is not complete."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def take(self, data: bytes) -> bytes | Any | None:
        """Take bytes that have come. Return a request."""
        self.keep(data)
        return self.next()

    def keep(self, data: bytes) -> None:
        """Take bytes that have come."""
        if not self._received:
            self._received = data
            return
        if isinstance(self._received, bytes):
            self._received = bytearray(self._received)
        self._received += data

    def discard_pipelined(self) -> int:
        """Discard the bytes behind the last request, and return their number.

        No request can follow then.
        """
        discarded, self._received = len(self._received), b""
        return discarded

    def next(self) -> bytes | Any | None:
        """Return a request from the kept bytes.

        Takes little of a body in tiny chunks: others wait meanwhile.
        """
        if self._body is not None:
            return self._continue()
        received = self._received
        if not received:
            return None
        if not self._size:
            end = received.find(_END, max(self._searched - 3, 0)) + 4
            if end < 4:
                self._check_begun_head()
                self._searched = len(received)
                return None
            if end > LONGEST_HEAD:
                raise _head_too_large()
            self._size = size_of_small_post(received, end)
            if not self._size:
                self._received = received[end:]
                return self._begin(bytes(received[:end]))
        if len(received) < self._size:
            return None
        whole, self._received = bytes(received[: self._size]), received[self._size :]
        self._size = self._searched = 0
        return whole

    def parse(self, whole: bytes) -> Any | None:
        """Return the request that is in these bytes."""
        pipelined = self._received
        end = whole.find(_END) + 4
        self._received = whole[end:]
        request = self._begin(whole[:end])
        self._received = bytes(self._received) + bytes(pipelined)
        return request

    def _begin(self, head: bytes) -> Any | None:
        """Parse a head, and take what has come of its body."""
        self._number += 1
        self._searched = 0
        try:
            request = Request(self._cfg, IterUnreader([head]), self._client, self._number)
        except Exception as error:
            raise refusal_of(error, head) from error
        if request.version not in ((1, 0), (1, 1)):
            raise unknown_version()
        self._request, reader = request, request.body.reader
        self._continue_expected = request._expected_100_continue
        request._expected_100_continue = False  # else gunicorn would write to the socket
        if isinstance(reader, ChunkedReader):
            check_transfer_coding(request.headers)
        elif reader.length == 0:
            return self._complete(InMemory())
        upload = self._upload_limit(request)
        limit = upload or self._body_limit
        if isinstance(reader, ChunkedReader):
            self._body = ChunkedBody(reader, limit)
        elif reader.length > limit.bytes:
            raise too_large(limit)
        else:
            self._body = SizedBody(reader.length)
        return self._continue() if upload is None else BegunUpload(request)

    def _continue(self) -> Any | None:
        """Take what has come of a body. Stop where tiny chunks may begin again, or at a full spool."""
        body = self._body
        assert body is not None
        while self._received and self.full_spool is None:
            most = body.read_size
            piece, self._received = bytes(self._received[:most]), self._received[most:]
            rest = body.feed(piece)
            if rest is not None:
                self._received = rest + self._received
                return self._complete(body.content)
            if body.read_size <= FEW:
                break
        return None

    def _complete(self, content: BodyContent) -> Any:
        request = self._request
        request.body = content
        if isinstance(content, InMemory):
            content.seek(0)
        self._request = self._body = self._spool = None
        return request

    def _check_begun_head(self) -> None:
        """Refuse bytes that cannot become a head, or not one that we accept."""
        received = self._received
        if not _FIRST_BYTES.match(received):
            if received[:1] == _TLS:
                raise Refusal(
                    400,
                    "This looks like TLS; this port speaks plain HTTP. "
                    "Ask with http://, or put a proxy in front that speaks TLS.",
                )
            raise Refusal(400, "What came is not HTTP; a request begins with its method, such as GET.")
        if BARE_LF.search(received, max(self._searched - 1, 0)):
            raise refusal_of(InvalidHeader(b""), b"\n")
        most = self._cfg.limit_request_line or LONGEST_HEAD
        if len(received) - 4 > most and received.find(b"\r\n", 2, most + 4) < 0:
            raise Refusal(414, f"The request's first line is longer than {most} bytes, the limit.")
        if len(received) > LONGEST_HEAD:
            raise _head_too_large()


def _head_too_large() -> Refusal:
    return Refusal(431, f"The request's head is larger than {LONGEST_HEAD} bytes, the limit.")
