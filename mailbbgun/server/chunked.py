"""Bodies that come in chunks (RFC 9112 §7.1), decoded as they come. gunicorn's parser judges every unusual line."""

import re
from io import BytesIO
from typing import Any

from gunicorn.http.errors import (  # type: ignore[import-untyped]  # it has no types
    ChunkMissingTerminator,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
)
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]  # nor has this

from mailbbgun.server.limits import SMALL
from mailbbgun.server.refusal import BARE_LF, too_large

#: Bytes of the line before a chunk, and of all trailers.
LONGEST_LINE, LONGEST_TRAILERS = 8190, 8190

#: Bytes to take at once while chunks may be tiny: decoding a thousand of them takes the poller a millisecond.
_FEW = 4096

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_ZERO = re.compile(rb"0+[ \t]*(?:;|\r\n)")


class ChunkedBody:
    """A body that is complete after its last chunk and its trailers.

    ``reader`` is gunicorn's ``ChunkedReader`` of the request: it parses lines with extensions, the last chunk and
    trailers, each given to it whole.
    """

    def __init__(self, reader: Any, limit: int) -> None:
        self.content = BytesIO()
        self._reader = reader
        self._limit = limit
        self._pending = bytearray()
        self._left = 0  # bytes of the current chunk
        self._ends = False  # the two bytes after a chunk come next
        self._complete = False

    @property
    def held(self) -> int:
        """Bytes kept."""
        return self.content.tell() + len(self._pending)

    @property
    def appetite(self) -> int:
        """How many bytes to take at once."""
        return max(_FEW, min(self._left, SMALL))

    def feed(self, data: bytes) -> bytes | None:
        """Take more of the body. Return the bytes after it once it is complete, else None. Raises :class:`Refusal`,
        and what gunicorn's parser raises."""
        self._pending += data
        at = 0
        while not self._complete and (after := self._step(at)) is not None:
            at = after
        del self._pending[:at]
        return bytes(self._pending) if self._complete else None

    def _step(self, at: int) -> int | None:
        """Decode what is pending at ``at``; return where the next part begins, None if more must come."""
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
                raise ChunkMissingTerminator(bytes(ending))
            self._ends = len(ending) < 2
            return None if self._ends else at + 2
        if (found := _SIZE.match(pending, at)) and (size := int(found[1], 16)):
            self._begin(size)
            return found.end()
        return self._unusual_line(at)

    def _begin(self, size: int) -> None:
        if self.content.tell() + size > self._limit:
            raise too_large(self._limit)
        self._left = size

    def _unusual_line(self, at: int) -> int | None:
        """Parse a line with extensions, or the last chunk with its trailers; return where the next part begins."""
        end = self._pending.find(b"\r\n", at)
        if end < 0:
            if len(self._pending) - at > LONGEST_LINE:
                raise InvalidChunkSize(b"line over %d bytes with no terminator" % LONGEST_LINE)
            return None
        after: int | None = end + 2
        if _ZERO.match(self._pending, at) and (after := self._trailers_end(end)) is None:
            return None
        size, _ = self._reader.parse_chunk_size(IterUnreader([]), data=bytes(self._pending[at:after]))
        if size:
            self._begin(size)
        self._complete = not size
        return after

    def _trailers_end(self, end: int) -> int | None:
        """Return where the trailers end, whose last chunk's line ends at ``end``; None if more must come."""
        pending = self._pending
        if pending[end + 2 : end + 4] == b"\r\n":
            return end + 4
        found = pending.find(b"\r\n\r\n", end + 2)
        if found >= 0:
            return found + 4
        if BARE_LF.search(pending, end + 2):
            raise InvalidHeader("bare LF as line terminator")
        if len(pending) - end > LONGEST_TRAILERS:
            raise LimitRequestHeaders("limit request trailer section size")
        return None
