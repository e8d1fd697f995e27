"""A message in a file without a name, for messages that are too large to be held in memory.

`spool` writes and checks it. A transaction reads it block by block, as often as it needs to. The
file is gone when it is closed, or when its process ends.
"""

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from types import TracebackType
from typing import Self

from mailbbgun.smtp.content import EnvelopeError, check_lines
from mailbbgun.smtp.outcome import Deferred, Phase
from mailbbgun.smtp.reply import Reply

#: Octets that are read at once. Of three octets, dot-stuffing makes four at most: 64 KiB.
_READ = 48 * 1024

#: Octets that are checked and written at once.
_WRITE = 64 * 1024

#: Octets of a header that may be read into memory.
MAX_HEADER = 1024 * 1024


class SpoolFailed(Exception):
    """The message could not be written to the spool folder; `outcome` is the outcome to record."""

    def __init__(self, error: OSError) -> None:
        text = f"the message cannot be written to the spool folder: {_why(error)}"
        super().__init__(text)
        self.outcome = Deferred(Reply(0, "4.3.1", text), Phase.MAIL)


class Spooled:
    """A checked message in an open file; not dot-stuffed.

    It takes the place of the bytes of a message: `len()` is its octets, and `isascii()` says whether
    each is ASCII. `close` it (or leave its `with` block) when no transaction can need it any more; those
    made by `with_header` share its file, and are closed with it. It may be read by several at a time.
    """

    __slots__ = ("_body_ascii", "_file", "_folder", "_header", "_header_ascii", "_header_end", "_size")

    def __init__(
        self,
        file: io.FileIO,
        folder: str | os.PathLike[str],
        size: int,
        header_end: int,
        *,
        header_ascii: bool,
        body_ascii: bool,
        header: bytes | None = None,
    ) -> None:
        """`header_end` is where the file's header ends; `header` is used instead of that, if given."""
        self._file = file
        self._folder = folder
        self._size = size
        self._header_end = header_end
        self._header = header
        self._header_ascii = header_ascii
        self._body_ascii = body_ascii

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which ends it. Safe to repeat."""
        self._file.close()

    def __len__(self) -> int:
        return self._size - self._header_end + self.header_size

    def isascii(self) -> bool:
        """Return whether every octet is ASCII."""
        return self._header_ascii and self._body_ascii

    @property
    def header_size(self) -> int:
        """The octets of `header`."""
        return self._header_end if self._header is None else len(self._header)

    @property
    def header_is_ascii(self) -> bool:
        """Whether every octet of `header` is ASCII."""
        return self._header_ascii

    @property
    def header(self) -> bytes:
        """The header with its last CRLF, without the empty line; all of a message that has no empty line.

        Raises EnvelopeError 5.6.0 if it is longer than `MAX_HEADER`, and OSError.
        """
        if self._header is not None:
            return self._header
        if self._header_end > MAX_HEADER:
            raise EnvelopeError("5.6.0", f"the header is longer than {MAX_HEADER} octets", Phase.BODY)
        return b"".join(self._from_file(0, self._header_end))

    def with_header(self, header: bytes) -> "Spooled":
        """Return the message with another header, which ends in CRLF. It shares the file.

        Raises EnvelopeError like `check_lines`.
        """
        check_lines(header)
        return Spooled(
            self._file,
            self._folder,
            self._size,
            self._header_end,
            header_ascii=header.isascii(),
            body_ascii=self._body_ascii,
            header=header,
        )

    def shares_file(self, other: "Raw") -> bool:
        """Return whether this and another message lie in the same file."""
        return isinstance(other, Spooled) and self._file is other._file

    def mapped(self) -> tuple[mmap, int]:
        """Return the file, mapped to memory, and where its own header ends. Raises OSError."""
        return mmap(self._file.fileno(), self._size, access=ACCESS_READ), self._header_end

    def beside(self, pieces: Iterable[bytes]) -> "Spooled":
        """Write another message to a file in the same folder: see `spool`."""
        return spool(pieces, self._folder)

    def octets(self) -> Iterator[bytes]:
        """Yield the message as it was given, in blocks of at most 48 KiB. Raises OSError."""
        if self._header is None:
            yield from self._from_file(0, self._size)
            return
        for start in range(0, len(self._header), _READ):
            yield self._header[start : start + _READ]
        yield from self.body()

    def body(self) -> Iterator[bytes]:
        """Yield what follows the header, from the empty line on, like `octets`."""
        return self._from_file(self._header_end, self._size)

    def blocks(self) -> Iterator[bytes]:
        """Yield the message as it follows DATA, in blocks of at most 64 KiB.

        Joined, they are what `content` makes of a message in memory: dot-stuffed (RFC 5321 §4.5.2),
        ending in CRLF, without the final dot. Raises OSError.
        """
        last = b"\r\n"  # a dot at the very beginning is the first of its line, too
        for block in self.octets():
            stuffed = block.replace(b"\r\n.", b"\r\n..") if b"\r\n." in block else block
            if last == b"\r\n" and block.startswith(b"."):
                stuffed = b"." + stuffed
            elif last.endswith(b"\r") and block.startswith(b"\n."):
                stuffed = b"\n." + stuffed[1:]
            last = (last + block[-2:])[-2:]
            yield stuffed
        if last != b"\r\n":
            yield b"\r\n"

    def _from_file(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            if not (block := os.pread(self._file.fileno(), min(_READ, end - start), start)):
                raise OSError(f"the file ends after {start} of {end} octets")
            start += len(block)
            yield block


#: The octets of a message: in memory, or in a file.
Raw = bytes | Spooled


def header_of(raw: Raw) -> bytes:
    """Return the header of a message with its last CRLF, without the empty line: see `Spooled.header`."""
    if isinstance(raw, Spooled):
        return raw.header
    end = raw.find(b"\r\n\r\n")
    return raw if end < 0 else raw[: end + 2]


def body_of(raw: Raw) -> Iterator[bytes]:
    """Yield what follows the header, from the empty line on: see `Spooled.body`."""
    if isinstance(raw, Spooled):
        yield from raw.body()
    else:
        yield raw[len(header_of(raw)) :]


def with_fields(raw: Raw, fields: bytes) -> Raw:
    """Return a message with these header fields before its own. Raises what `Spooled.with_header` does."""
    if not fields:
        return raw
    return raw.with_header(fields + raw.header) if isinstance(raw, Spooled) else fields + raw


def spool(pieces: Iterable[bytes], folder: str | os.PathLike[str]) -> Spooled:
    """Write a message, given in pieces of any size, to a file without a name in `folder`.

    The message has CRLF line ends and is not dot-stuffed. The folder is made if there is none. Blocks:
    call it in a thread. Raises EnvelopeError like `content.check_lines`, SpoolFailed (no room, no right
    to write, too many open files), and what `pieces` raises. Nothing is left behind then.
    """
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the Spooled closes it
    except OSError as error:
        raise SpoolFailed(error) from error
    try:
        return _Spooling(file, folder).run(pieces)
    except BaseException:
        file.close()
        raise


class _Spooling:
    """Checks and writes a message. Each write has whole lines, so that each is checked alone."""

    def __init__(self, file: io.FileIO, folder: str | os.PathLike[str]) -> None:
        self._file, self._folder = file, folder
        self._held = bytearray()  # the end of what was given: not checked and written yet
        self._size = 0
        self._header_end: int | None = None
        self._header_ascii = self._body_ascii = True

    def run(self, pieces: Iterable[bytes]) -> Spooled:
        for piece in pieces:
            self._held += piece
            if len(self._held) >= _WRITE:
                self._take(self._end_of_lines())
        self._take(len(self._held))
        end = self._size if self._header_end is None else self._header_end
        return Spooled(
            self._file,
            self._folder,
            self._size,
            end,
            header_ascii=self._header_ascii,
            body_ascii=self._body_ascii,
        )

    def _end_of_lines(self) -> int:
        """Return where the last whole line ends. If there is none, the rest is too long for a line."""
        if end := self._held.rfind(b"\r\n") + 1:
            return end + 1
        return len(self._held) - self._held.endswith(b"\r")  # a CR may be half of a line end

    def _take(self, count: int) -> None:
        lines = bytes(memoryview(self._held)[:count])
        del self._held[:count]
        check_lines(lines)
        self._note(lines)
        _write(self._file, lines)
        self._size += count

    def _note(self, lines: bytes) -> None:
        """Note where the header ends, and what is not ASCII."""
        if self._header_end is not None:
            self._body_ascii = self._body_ascii and lines.isascii()
            return
        if self._size and lines.startswith(b"\r\n"):  # the empty line is the first of these
            end = 0
        elif (end := lines.find(b"\r\n\r\n") + 2) < 2:
            self._header_ascii = self._header_ascii and lines.isascii()
            return
        self._header_end = self._size + end
        self._header_ascii = self._header_ascii and lines[:end].isascii()
        self._body_ascii = lines[end:].isascii()


def _write(file: io.FileIO, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        try:
            rest = rest[file.write(rest) :]
        except OSError as error:
            raise SpoolFailed(error) from error


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
