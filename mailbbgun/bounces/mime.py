"""Splits a mail into its parts, within bounds whatever the bytes are.

The standard library's parser recurses once a level and keeps whole attachments; a report is told
from its first parts, so this reads the beginning only and goes a few levels deep.
"""

import binascii
import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message

#: Bytes of a mail that are read. What a report says stands before the mail that it is about.
MOST_BYTES = 512 * 1024
#: Header fields of a part that are read, and characters of one.
MOST_FIELDS, LONGEST_FIELD = 500, 4_096
#: Levels of multipart and attached mail, and parts of all levels.
MOST_LEVELS, MOST_PARTS = 8, 64
#: Attached mails that are read as forwarded.
MOST_FORWARDED = 3
#: Characters of a decoded part.
LONGEST_TEXT = 64 * 1024

_FIELD = re.compile(r"([!-9;-~]{1,80})[ \t]*:(.*)", re.DOTALL)
# The line that announces a mail that is forwarded within the text, and the mark of a quoted line.
_ANNOUNCES = re.compile(
    r"[>\s]{0,8}(?:-{2,12} ?(?:forwarded|original|weitergeleitete|urspr\w{1,10}) (?:message|mail|nachricht)|"
    r"begin forwarded message|anfang der weitergeleiteten)",
    re.IGNORECASE,
)
_QUOTE = re.compile(r"\A\s{0,4}>{1,8} ?")
#: Codecs that turn text into text, or take quadratic time.
_BAD_CODECS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})


@dataclass(frozen=True, slots=True)
class LeafPart:
    """A part that is no multipart. ``text`` is decoded; of an attached mail it is the mail as it stands."""

    content_type: str
    headers: dict[str, list[str]]
    text: str


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail's header fields, by name in lower case, and its parts in order."""

    headers: dict[str, list[str]]
    content_type: str
    parts: list[LeafPart] = field(default_factory=list)

    def first(self, name: str) -> str:
        """Return a header field's value, decoded; empty if there is none."""
        return decoded(next(iter(self.headers.get(name, ())), ""))

    def of_type(self, *types: str) -> Iterator[LeafPart]:
        """Yield the parts of these types."""
        return (part for part in self.parts if part.content_type in types)


def parse(raw: bytes) -> Mail:
    """Return a mail's header and parts."""
    text = raw[:MOST_BYTES].replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n").decode("latin-1")
    if text.startswith("From "):  # as in a mailbox file
        text = text.partition("\n")[2]
    headers, body = split_header(text)
    parts: list[LeafPart] = []
    content_type, _ = _type_of(headers)
    _collect(headers, body, parts, MOST_LEVELS)
    return Mail(headers, content_type, parts)


def forwarded(mail: Mail, quoted: str) -> Iterator[Mail]:
    """Yield the mails that are attached, and the one that ``quoted`` has below a line that announces it."""
    for part in [*mail.of_type("message/rfc822")][:MOST_FORWARDED]:
        yield parse(part.text.encode("latin-1", "replace"))
    lines = quoted[:LONGEST_TEXT].split("\n")
    start = next((at for at, line in enumerate(lines, 1) if _ANNOUNCES.match(line[:200])), len(lines))
    if text := "\n".join(_QUOTE.sub("", line) for line in lines[start:]).strip():
        headers, _ = split_header(text.encode("utf-8", "replace").decode("latin-1"))
        yield Mail(headers, "text/plain", [LeafPart("text/plain", headers, text.partition("\n\n")[2])])


def split_header(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the header fields, by name in lower case, and the body."""
    head, _, body = text.partition("\n\n") if not text.startswith("\n") else ("", "", text[1:])
    return fields_of(head), body


def fields_of(head: str) -> dict[str, list[str]]:
    """Return the fields of a header or of a block of a report, unfolded, by name in lower case."""
    found: dict[str, list[str]] = {}
    for count, line in enumerate(unfolded(head)):
        if count >= MOST_FIELDS:
            break
        if match := _FIELD.match(line):
            found.setdefault(match[1].lower(), []).append(match[2].strip())
    return found


def unfolded(head: str) -> Iterator[str]:
    """Yield the lines of a header, each with what continues it (RFC 5322 §2.2.3)."""
    held: list[str] = []
    length = 0
    for line in head.split("\n"):
        if line[:1] in (" ", "\t") and held:
            if length < LONGEST_FIELD and len(held) < 64:
                held.append(line.strip())
                length += len(held[-1])
            continue
        if held:
            yield " ".join(held)[:LONGEST_FIELD]
        held = [line.rstrip()[:LONGEST_FIELD]]
        length = len(held[0])
    if held:
        yield " ".join(held)[:LONGEST_FIELD]


def decoded(value: str) -> str:
    """Return a header field's value with its encoded words decoded (RFC 2047), as well as may be."""
    value = value[:LONGEST_FIELD]
    if not value.isascii():
        value = text_of(value.encode("latin-1", "replace"), "utf-8")
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (MessageError, LookupError, ValueError):
        return value


def text_of(body: bytes, charset: str) -> str:
    """Return text in a charset that may be unknown or wrong."""
    for name in (charset, "utf-8"):
        try:
            codec = codecs.lookup(name)
            if codec.name in _BAD_CODECS:
                continue
            return body.decode(codec.name)
        except (LookupError, UnicodeError, ValueError, TypeError):
            continue
    return body.decode("utf-8" if charset.lower() in ("", "utf-8", "us-ascii") else "latin-1", "replace")


def _type_of(headers: dict[str, list[str]]) -> tuple[str, Message]:
    """Return a part's content type in lower case, and an object that knows its parameters."""
    message = Message()
    for name in ("content-type",):
        if value := headers.get(name, [""])[0]:
            message[name] = value[:1_000].replace("\n", " ")
    return message.get_content_type(), message


def _parameter(message: Message, name: str) -> str:
    try:
        value = message.get_param(name)
    except (ValueError, LookupError):
        return ""
    return value if isinstance(value, str) else str(value[2]) if value else ""


def _collect(headers: dict[str, list[str]], body: str, parts: list[LeafPart], levels: int) -> None:
    """Add the parts of an entity, in order."""
    if len(parts) >= MOST_PARTS:
        return
    content_type, message = _type_of(headers)
    boundary = _parameter(message, "boundary").rstrip()
    if content_type.startswith("multipart/") and boundary and levels and f"--{boundary}" in body:
        for piece in _pieces(body, boundary):
            _collect(*split_header(piece), parts, levels - 1)
            if len(parts) >= MOST_PARTS:
                return
        return
    parts.append(
        LeafPart(content_type, headers, _decoded_body(headers, body, content_type, _parameter(message, "charset")))
    )


def _pieces(body: str, boundary: str) -> Iterator[str]:
    """Yield what stands between the lines of a boundary (RFC 2046 §5.1.1), and the preamble if it has text."""
    mark = f"\n--{boundary}"
    body, start = f"\n{body}", 0
    for count in range(MOST_PARTS + 1):
        stop = body.find(mark, start)
        piece = body[start:] if stop < 0 else body[start:stop]
        if count:
            first, _, rest = piece.partition("\n")
            if first.startswith("--"):  # the last one
                return
            yield rest
        if stop < 0:
            return
        start = stop + len(mark)


def _decoded_body(headers: dict[str, list[str]], body: str, content_type: str, charset: str) -> str:
    encoding = headers.get("content-transfer-encoding", [""])[0].lower().partition(" ")[0]
    data = body[: 2 * LONGEST_TEXT].encode("latin-1", "replace")
    if encoding == "base64":
        data = _from_base64(data)
    elif encoding == "quoted-printable":
        data = quopri.decodestring(data)
    if content_type.startswith("message/rfc822") or content_type == "text/rfc822-headers":
        return data[:LONGEST_TEXT].decode("latin-1").lstrip("\n")
    return text_of(data, charset or "utf-8")[:LONGEST_TEXT]


def _from_base64(data: bytes) -> bytes:
    try:
        kept = re.sub(rb"[^A-Za-z0-9+/]", b"", data.partition(b"=")[0])
        return binascii.a2b_base64(kept[: len(kept) // 4 * 4] + _last_group(kept))
    except binascii.Error:
        return data


def _last_group(kept: bytes) -> bytes:
    left = len(kept) % 4
    return b"" if left < 2 else kept[-left:] + b"=" * (4 - left)
