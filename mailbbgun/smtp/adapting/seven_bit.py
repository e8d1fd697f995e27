"""Encodes the parts of a message that are not 7-bit data, for servers without 8BITMIME (RFC 6152 §3).

Parts that are 7-bit stay as they are, and so do the structure, boundaries, and charsets. Text becomes
quoted-printable, or base64 if that is shorter; everything else becomes base64. Headers of parts become
ASCII. What cannot be encoded without guessing is refused: broken MIME, and signed or encrypted parts.
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from mailbbgun.smtp.adapting.downgrade import part_header_in_ascii
from mailbbgun.smtp.content import EnvelopeError, check_lines
from mailbbgun.smtp.outcome import Phase
from mailbbgun.smtp.spooled import MAX_HEADER, Raw, Spooled, header_of

#: Levels of parts in parts. Each is read once more than the level around it.
MAX_DEPTH = 30

#: Parts of a message.
MAX_PARTS = 10_000

# Octets that are looked at or copied at once, without a part of a line; of base64, whole lines.
_BLOCK = 262_144
_BASE64_BLOCK = 57 * 4096

_MIME_FIELD = re.compile(
    rb"^(content-type|content-transfer-encoding|mime-version)[ \t]*:(.*(?:\r\n[ \t].*)*)\r\n",
    re.IGNORECASE | re.MULTILINE,
)
_TYPE = re.compile(rb"\s*([^\s;/()]+)\s*/\s*([^\s;()]+)")
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()]+))', re.IGNORECASE)
_IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
# Octets that quoted-printable leaves as they are (RFC 2045 §6.7).
_LITERAL = bytes([*b"\t\r\n", *(octet for octet in range(32, 127) if octet != ord("="))])


class _Entity(NamedTuple):
    """A message or a part: its header, and where its body is. `headless`: it has no empty line."""

    header: bytes
    start: int
    end: int
    headless: bool = False
    is_message: bool = False


def in_seven_bits(raw: Raw) -> Raw:
    """Return a message whose header is ASCII as 7-bit data.

    Of a file, the result is another file in the same folder, which the caller must close. Raises
    EnvelopeError 5.6.3 if it cannot be encoded, and 5.6.7 if an author of an attached mail cannot;
    for a file also SpoolFailed and OSError.
    """
    header = header_of(raw)
    if not isinstance(raw, Spooled):
        return b"".join(_Encoder(raw).message(header, min(len(header) + 2, len(raw))))
    data, start = raw.mapped()
    return raw.beside(_Encoder(data).message(header, min(start + 2, len(data))))


def _refused(why: str) -> EnvelopeError:
    return EnvelopeError("5.6.3", f"the server does not offer 8BITMIME, and {why}", Phase.MAIL)


class _Encoder:
    """Encodes one message."""

    def __init__(self, data: bytes | mmap) -> None:
        self._data = data
        self._parts = 0

    def message(self, header: bytes, start: int) -> Iterator[bytes]:
        """Yield the message whose header this is. ``start``: of its body, after the empty line."""
        return self._entity(_Entity(header, start, len(self._data), is_message=True), b"text/plain", 0)

    def _entity(self, its: _Entity, usual: bytes, depth: int) -> Iterator[bytes]:
        """Yield a message or part; ``usual`` is its type if its header names none."""
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            raise _refused("it has too many parts")
        header = its.header if its.header.isascii() else part_header_in_ascii(its.header)
        if not header.isascii():
            raise _refused("a header in it is broken")
        if self._is_seven_bit(its.start, its.end):
            yield header
            yield b"" if its.headless else b"\r\n"
            yield from self._blocks(its.start, its.end)
            return
        fields = _mime_fields(header)
        if fields.get(b"content-transfer-encoding", b"").split(b"(")[0].strip().lower() not in _IDENTITY:
            raise _refused("a part of it is not encoded as it says")
        kind = _type_of(fields.get(b"content-type", b""), usual)
        encoding, body = self._body(kind, fields.get(b"content-type", b""), its, depth)
        if encoding != b"7bit" or b"content-transfer-encoding" in fields:
            header = _labelled(header, fields, encoding, is_message=its.is_message)
        yield header
        yield b"\r\n"
        yield from body

    def _body(self, kind: bytes, content_type: bytes, its: _Entity, depth: int) -> tuple[bytes, Iterator[bytes]]:
        """Return the encoding of a body that is not 7-bit, and its octets."""
        if kind in (b"multipart/signed", b"multipart/encrypted"):
            raise _refused("a part of it is signed or encrypted")
        if kind.startswith(b"multipart/"):
            usual = b"message/rfc822" if kind == b"multipart/digest" else b"text/plain"
            return b"7bit", self._multipart(_boundary(content_type), usual, its, depth)
        if kind == b"message/rfc822":  # RFC 2046 §5.2.1: it may not be encoded as a whole
            return b"7bit", self._entity(self._split(its.start, its.end, is_message=True), b"text/plain", depth + 1)
        if kind.startswith(b"message/") and not kind.startswith(b"message/global"):  # RFC 6532 §3.7 permits those
            raise _refused(f"a part of the type {kind.decode('ascii', 'replace')} may not be encoded")
        if kind.startswith(b"text/") and self._is_mostly_literal(its.start, its.end):
            return b"quoted-printable", self._quoted_printable(its.start, its.end)
        return b"base64", self._base64(its.start, its.end)

    def _multipart(self, boundary: bytes, usual: bytes, its: _Entity, depth: int) -> Iterator[bytes]:
        """Yield the body of a multipart (RFC 2046 §5.1.1)."""
        data, end = self._data, its.end
        delimiter = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r\n|\Z)")
        found = delimiter.finditer(data, its.start - 2, end)  # the empty line may end in the first one's CRLF
        this = next(found, None)
        if this is None or this[1]:
            raise _refused("a multipart of it has no part")
        yield _NOT_ASCII.sub(b"?", data[its.start : this.start()])  # nobody reads what is outside of parts
        yield data[max(its.start, this.start()) : this.end()]
        while not this[1]:
            following = next(found, None)
            until = end if following is None else following.start()
            yield data[this.end() : min(this.end() + 2, until)]
            if this.end() + 2 <= until:
                yield from self._entity(self._split(this.end() + 2, until), usual, depth + 1)
            if following is None:
                return
            this = following
            yield data[this.start() : this.end()]
        yield _NOT_ASCII.sub(b"?", data[this.end() : end])

    def _split(self, start: int, end: int, *, is_message: bool = False) -> _Entity:
        """Return a part, or the message in one."""
        if self._data[start : min(start + 2, end)] == b"\r\n":
            return _Entity(b"", start + 2, end, is_message=is_message)
        at = self._data.find(b"\r\n\r\n", start, end)
        stop = end if at < 0 else at + 2
        if stop - start > MAX_HEADER:
            raise _refused("a header in it is too long")
        return _Entity(self._data[start:stop], end if at < 0 else at + 4, end, at < 0, is_message)

    # -- bodies

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield octets in blocks of whole lines; a line that is longer than a block is cut."""
        while start < end:
            stop = min(start + _BLOCK, end)
            if stop < end and (last := self._data.rfind(b"\r\n", start, stop)) >= 0:
                stop = last + 2
            yield self._data[start:stop]
            start = stop

    def _is_seven_bit(self, start: int, end: int) -> bool:
        """Return whether octets are 7-bit data (RFC 2045 §2.7)."""
        try:
            for block in self._blocks(start, end):
                check_lines(block)
                if not block.isascii():
                    return False
        except EnvelopeError:
            return False
        return True

    def _is_mostly_literal(self, start: int, end: int) -> bool:
        """Return whether quoted-printable makes octets shorter than base64, and needs no NUL."""
        others = 0
        for block in self._blocks(start, end):
            if b"\0" in block:
                return False
            others += len(block.translate(None, _LITERAL))
        return others * 6 < end - start

    def _quoted_printable(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            at = self._data.find(b"\r\n", start, end)
            stop = end if at < 0 else at
            line = b2a_qp(self._data[start:stop], istext=False)
            # Where a long line is broken, no boundary may begin. That takes two characters more than the usual 76.
            yield line.replace(b"=\n--", b"=\n=2D-").replace(b"=\n", b"=\r\n")
            yield b"" if at < 0 else b"\r\n"
            start = stop + 2

    def _base64(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _BASE64_BLOCK):
            lines = encodebytes(self._data[at : min(at + _BASE64_BLOCK, end)]).replace(b"\n", b"\r\n")
            yield lines if at + _BASE64_BLOCK < end else lines.removesuffix(b"\r\n")  # a delimiter begins with CRLF


def _mime_fields(header: bytes) -> dict[bytes, bytes]:
    """Return the values of the fields of MIME, by their names in lower case."""
    fields: dict[bytes, bytes] = {}
    for found in _MIME_FIELD.finditer(header):
        name = found[1].lower()
        if name in fields:
            raise _refused("a header in it is ambiguous")
        fields[name] = found[2]
    return fields


def _type_of(value: bytes, usual: bytes) -> bytes:
    """Return a content type in lower case; that of plain text if it is no valid one (RFC 2045 §5.2)."""
    if found := _TYPE.match(value):
        return b"/".join(found.groups()).lower()
    if value.strip().lower().startswith((b"multipart", b"message")):
        raise _refused("a header in it is broken")
    return b"text/plain" if value else usual


def _boundary(content_type: bytes) -> bytes:
    found = _BOUNDARY.findall(content_type)
    boundary = re.sub(rb"\\(.)", rb"\1", found[0][0]) or found[0][1] if len(found) == 1 else b""
    if not boundary or b"\r" in boundary:
        raise _refused("a multipart of it has no clear boundary")
    return boundary


def _labelled(header: bytes, fields: dict[bytes, bytes], encoding: bytes, *, is_message: bool) -> bytes:
    """Return a header that names the encoding."""
    label = b"Content-Transfer-Encoding: %b\r\n" % encoding
    if b"content-transfer-encoding" in fields:
        header = _MIME_FIELD.sub(lambda one: label if one[1].lower().endswith(b"encoding") else one[0], header)
    else:
        header += label
    return header + b"MIME-Version: 1.0\r\n" if is_message and b"mime-version" not in fields else header
