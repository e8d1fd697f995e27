"""Decodes bodies that come in chunks (RFC 9112 §7.1), as they come.

gunicorn's parser checks the trailers.
"""

import re
from typing import Any

from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]  # it has no types

from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.server.bodies.content import BodyContent, InMemory
from mailbbgun.server.client_limits import SMALL
from mailbbgun.server.refusal import BARE_LF, Refusal, refusal_of_trailers, too_large

#: Bytes of the line before a chunk, at most.
LONGEST_LINE = 8190

#: Bytes of all trailers, at most.
LONGEST_TRAILERS = 8190

#: Bytes to take at once while chunks may be tiny. The poller decodes a thousand of them in a
#: millisecond.
FEW = 2048

#: Bytes of framing that a body may have, beyond as many as its content has. Framing is everything
#: but content and trailers. Decoding framing costs hundreds of times as much as taking content.
FREE_FRAMING = 65_536

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_HEX = re.compile(rb"[0-9A-Fa-f]+")

# A chunk's extensions (RFC 9112 §7.1.1). We ignore them, but check them: anything else there may be
# a smuggled request. No byte can belong to two parts of the pattern, so matching takes linear time.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSIONS = re.compile(rb"(?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*")


class ChunkedBody:
    """A body that is complete after its last chunk and its trailers.

    ``reader`` is gunicorn's ``ChunkedReader`` of the request. It gets the trailers whole, and
    parses them.
    """

    def __init__(self, reader: Any, limit: BodyLimit) -> None:
        self.content: BodyContent = InMemory()
        self._reader = reader
        self._limit = limit
        self._pending = bytearray()
        self._searched = 0  # pending bytes that contain no end of a line, or of the trailers
        self._framing = 0  # bytes of framing so far
        self._left = 0  # bytes of the current chunk that have not come
        self._ends = False  # the CR LF after a chunk comes next
        self._in_trailers = False
        self._complete = False

    @property
    def held(self) -> int:
        """Bytes kept."""
        return self.content.held + len(self._pending)

    @property
    def read_size(self) -> int:
        """How many bytes to take at once."""
        return max(FEW, min(self._left, SMALL))

    def feed(self, data: bytes | bytearray) -> bytes | None:
        """Take more of the body.

        Return the bytes after it once it is complete, else None. Raises :class:`Refusal`.
        """
        self._pending += data
        at = 0
        while not self._complete and (after := self._step(at)) is not None:
            at = after
        del self._pending[:at]
        return bytes(self._pending) if self._complete else None

    def _step(self, at: int) -> int | None:
        """Decode the part that begins at ``at``.

        Return where the next part begins; None if more must come.
        """
        pending = self._pending
        if self._left:
            piece = pending[at : at + self._left]
            self.content.write(piece)
            self._left -= len(piece)
            self._ends = not self._left
            return at + len(piece) if piece else None
        if self._ends:
            ending = pending[at : at + 2]
            if not b"\r\n".startswith(ending):
                raise Refusal(
                    400, "A chunk is longer than its size says: CR LF must follow its last byte (RFC 9112 §7.1)."
                )
            self._ends = len(ending) < 2
            return None if self._ends else at + 2
        if self._in_trailers:
            return self._trailers(at)
        if (found := _SIZE.match(pending, at)) and (size := int(found[1], 16)):
            return self._begin(size, at, found.end())
        return self._unusual_line(at)

    def _begin(self, size: int, line: int, start: int) -> int:
        """Begin a chunk of ``size`` bytes: its line is at ``line``, its content at ``start``.

        Return where the next part begins. That is behind the chunk, if it has come as a whole.
        """
        content = self.content.tell()
        if content + size > self._limit.bytes:
            raise too_large(self._limit)
        self._framing += start - line + 2
        if self._framing > content + FREE_FRAMING:
            raise Refusal(
                400,
                f"The lines between the body's chunks have {FREE_FRAMING} bytes more than its content, the limit: "
                "send larger chunks with shorter extensions.",
            )
        self._searched = 0
        end = start + size
        if self._pending[end : end + 2] == b"\r\n":
            self.content.write(self._pending[start:end])
            return end + 2
        self._left = size
        return start

    def _unusual_line(self, at: int) -> int | None:
        """Parse a line that has extensions, or is the last chunk's.

        Return where the next part begins.
        """
        pending = self._pending
        end = pending.find(b"\r\n", at + max(self._searched - 1, 0))
        if (len(pending) if end < 0 else end) - at > LONGEST_LINE:
            raise Refusal(400, f"The line before a chunk is longer than {LONGEST_LINE} bytes, the limit.")
        if end < 0:
            self._searched = len(pending) - at
            return None
        self._searched = 0
        digits = _HEX.match(pending, at, end)
        if digits is None or not _EXTENSIONS.fullmatch(pending, digits.end(), end):
            raise Refusal(
                400,
                "The line before a chunk is not its size in hexadecimal digits, and at most extensions "
                "such as ;name=value after it (RFC 9112 §7.1).",
            )
        if size := int(digits[0], 16):
            return self._begin(size, at, end + 2)
        self._in_trailers = True
        return end + 2

    def _trailers(self, at: int) -> int | None:
        """Parse the trailers. Return where they end; None if more must come."""
        pending = self._pending
        if pending[at : at + 2] == b"\r\n":
            self._complete = True
            return at + 2
        found = pending.find(b"\r\n\r\n", at + max(self._searched - 3, 0))
        if (len(pending) if found < 0 else found) - at > LONGEST_TRAILERS:
            raise Refusal(
                431, f"The trailers after the last chunk are longer than {LONGEST_TRAILERS} bytes, the limit."
            )
        if found < 0:
            if BARE_LF.search(pending, at + max(self._searched - 1, 0)):
                raise Refusal(400, "A trailer ends with a bare LF; every line must end with CR LF (RFC 9112 §2.2).")
            self._searched = len(pending) - at
            return None
        try:
            self._reader.parse_trailers(IterUnreader([]), bytes(pending[at : found + 4]))
        except Exception as error:
            raise refusal_of_trailers(error) from error
        self._complete = True
        return found + 4
