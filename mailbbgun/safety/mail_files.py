"""Finds the files in a whole mail (RFC 2045, RFC 2046). Pure; bounded for any bytes.

The parts are found by their boundaries alone, each level in one pass. What a part is not sure to be (a body
that people read, or a signature) counts as a file.
"""

import binascii
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import HeaderParser
from string import ascii_letters, digits
from typing import NamedTuple

from mailbbgun.core.errors import FileRefused

#: Parts of a mail, levels of parts in parts, and lines that may be a boundary, at most.
MOST_PARTS, MOST_LEVELS, MOST_MARKS = 1000, 20, 100_000
#: Octets of a part's header, and of all headers together, that are parsed.
HEADER_SIZE, HEADERS_SIZE = 65_536, 1_000_000

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
#: What begins a signature or an encrypted mail, which are no files (RFC 3156, RFC 8551): OpenPGP's armor, or DER.
_ARMOR = re.compile(rb"\s*-----BEGIN PGP (SIGNATURE|MESSAGE)-----")
_DER = b"\x30"
#: Octets that are neither base64 nor its end (RFC 2045 §6.8).
_NO_DIGITS = bytes(one for one in range(256) if chr(one) not in f"{ascii_letters}{digits}+/=")
_PGP = ("application/pgp-signature", "application/pgp-encrypted", "application/octet-stream")
_CMS = re.compile(r"application/(x-)?pkcs7-(signature|mime)")


class MailFile(NamedTuple):
    """A file in a mail: the name and the media type that the mail gives it (both may be empty), and its octets."""

    filename: str
    content_type: str
    content: bytes


def files_in(mime: bytes) -> Iterator[MailFile]:
    """Yield the files in a mail. Raises :class:`FileRefused` for a mail of more parts than anybody sends."""
    yield from _files(mime, 0, "", _Budget())


class _Budget:
    """What may yet be read of a mail."""

    def __init__(self) -> None:
        self._parts, self._marks, self._octets = MOST_PARTS, MOST_MARKS, HEADERS_SIZE

    def spend(self, *, parts: int = 0, marks: int = 0, octets: int = 0) -> None:
        """Raise :class:`FileRefused` for more than there is."""
        self._parts, self._marks, self._octets = self._parts - parts, self._marks - marks, self._octets - octets
        if min(self._parts, self._marks, self._octets) < 0:
            raise _too_much()


def _too_much() -> FileRefused:
    return FileRefused(
        f"The mail has more than {MOST_PARTS} parts, parts in parts of more than {MOST_LEVELS} levels, or headers of "
        f"parts of more than {HEADERS_SIZE} bytes."
    )


def _files(part: bytes, level: int, parent: str, budget: _Budget) -> Iterator[MailFile]:
    budget.spend(parts=1)
    if level > MOST_LEVELS:
        raise _too_much()
    header, body = _divided(part, budget)
    kind = header.get_content_type()
    if kind.startswith("multipart/") and (boundary := _boundary(header)):
        for inner in _parts(body, boundary, budget):
            yield from _files(inner, level + 1, kind, budget)
        return
    content = _decoded(body, str(header.get("Content-Transfer-Encoding", "")).strip().lower())
    if kind == "message/rfc822":
        yield from _files(content, level + 1, kind, budget)
        return
    name = _filename(header)
    if (name or not _is_body(header, kind)) and not _is_cryptography(kind, parent, content):
        yield MailFile(name, kind, content)


def _divided(part: bytes, budget: _Budget) -> tuple[Message, bytes]:
    """Return the header of a part, and its body."""
    if part.startswith((b"\r\n", b"\n")):
        return Message(), part.partition(b"\n")[2]
    found = _BLANK_LINE.search(part)
    head, body = (part[: found.start()], part[found.end() :]) if found else (part, b"")
    if len(head) > HEADER_SIZE:
        # Only the fields about the content matter here, and each is far shorter than this.
        head = b"".join(_fields_of_content(head))[:HEADER_SIZE]
    budget.spend(octets=len(head))
    return HeaderParser().parsestr(head.decode("utf-8", "replace")), body


def _fields_of_content(head: bytes) -> Iterator[bytes]:
    """Yield the lines of the fields whose names begin with ``Content-``, with those that continue them."""
    wanted = False
    for line in head.splitlines(keepends=True):
        if not line.startswith((b" ", b"\t")):
            wanted = line[:8].lower() == b"content-"
        if wanted:
            yield line


def _boundary(header: Message) -> bytes:
    found = header.get_param("boundary")
    return found.rstrip().encode("utf-8", "replace") if isinstance(found, str) else b""


def _parts(body: bytes, boundary: bytes, budget: _Budget) -> Iterator[bytes]:
    """Yield the parts between the lines of a boundary (RFC 2046 §5.1.1). The last may lack its end."""
    mark = b"--" + boundary
    begun, at = -1, 0
    while (found := body.find(mark, at)) >= 0:
        at = found + len(mark)
        budget.spend(marks=1)
        if found and body[found - 1 : found] != b"\n":
            continue
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        rest = body[at : min(end, at + 80)].strip()
        if rest not in (b"", b"--"):
            continue  # a boundary of which this one is the beginning
        if begun >= 0:
            yield body[begun:found]
        begun, at = (-1 if rest else end + 1), end
    if begun >= 0:
        yield body[begun:]


def _decoded(body: bytes, encoding: str) -> bytes:
    """Return the content of a part; as it is if its encoding is unknown. What is no base64 is passed over."""
    if encoding == "base64":
        coded = body.translate(None, _NO_DIGITS).partition(b"=")[0]
        usable = len(coded) - (len(coded) % 4 == 1)  # a single digit has less than an octet
        return binascii.a2b_base64(coded[:usable] + b"==")
    return binascii.a2b_qp(body) if encoding == "quoted-printable" else body


def _filename(header: Message) -> str:
    """Return the name of a file, decoded as mail programs do, which take encoded words (RFC 2047) as well."""
    name = header.get_filename("")
    if "=?" in name and len(name) < 2000:
        try:
            name = str(make_header(decode_header(name)))
        except (HeaderParseError, LookupError, ValueError):
            return name
    return name


def _is_body(header: Message, kind: str) -> bool:
    """Return whether a part without a name is text that people read, or tells of a delivery."""
    return header.get_content_disposition() != "attachment" and kind.startswith(("text/", "message/", "multipart/"))


def _is_cryptography(kind: str, parent: str, content: bytes) -> bool:
    """Return whether a part is a signature or an encrypted mail, by its place, its type and its first octets."""
    if _CMS.fullmatch(kind):
        return content.startswith(_DER)
    if parent not in ("multipart/signed", "multipart/encrypted") or kind not in _PGP:
        return False
    return kind == "application/pgp-encrypted" or _ARMOR.match(content) is not None
