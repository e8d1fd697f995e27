"""The parts of a mail, found in its bytes (RFC 2046 §5.1). Pure.

A part is where its body begins and ends: nothing is copied. A multipart is looked through for its own
delimiter only, within the bytes its parent left to it: that costs at most ``DEPTH`` looks at a byte. So
a part whose end is missing ends where the parent's next part begins.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mailbbgun.mime_reading.mail import DEPTH, FIELD_BYTES, FIELDS, HEADER_BYTES, LOOKS, PARTS, Problems
from mailbbgun.mime_reading.parameters import ContentField, content_type, default_type

_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_BLANK = re.compile(rb"\r?\n(?=\r?\n)")
_FOLDED = re.compile(rb"(?:[ \t][^\n]*+(?:\n|\Z))*+")
# Of delimiters that no field names, the first line that looks like one and has a field or a blank line after it.
_LIKELY = re.compile(rb"(?:\A|\n)--([!-~][ -~]{0,98}[!-~]|[!-~])[ \t]*\r?\n(?=Content-|\r?\n)", re.IGNORECASE)
#: Bytes of a multipart in which a delimiter that nobody named is looked for.
_LIKELY_WITHIN = 100_000
_LONGEST_BOUNDARY = 1_000


@dataclass(slots=True)
class Part:
    """A part: its header fields as they stand, its type, and where its body is."""

    fields: list[tuple[bytes, bytes]]
    type: ContentField
    start: int
    end: int
    children: list["Part"] = field(default_factory=list)

    def first(self, name: bytes) -> bytes:
        """Return the value of the first field of this name (in lower case); b"" if there is none."""
        return next((value for key, value in self.fields if key.lower() == name), b"")


@dataclass(slots=True)
class _Reading:
    raw: bytes
    problems: Problems
    left: int = PARTS
    #: Lines that only began like a delimiter and still may be met.
    misses: int = 100_000
    looks: int = LOOKS


def parts(raw: bytes, problems: Problems) -> Part:
    """Return the outermost part of a mail, with all parts within it."""
    return _part(_Reading(raw, problems), 0, len(raw), 0, "text/plain")


def header(raw: bytes, start: int, end: int, problems: Problems) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the fields of a header, each with its value on one line, and where the body begins."""
    found: list[tuple[bytes, bytes]] = []
    at, limit = start, min(end, start + HEADER_BYTES)
    while at < limit and len(found) < FIELDS:
        line, after = _line(raw, at, end)
        if not line:
            return found, after
        match = _FIELD.match(line)
        if match:
            found.append((match[1], line[match.end() :].strip()[:FIELD_BYTES]))
        elif found and line[:1] in b" \t":
            name, value = found[-1]
            after, more = _continued(raw, at, end, FIELD_BYTES - len(value))
            found[-1] = (name, value + more)
        elif found or not line.startswith((b"From ", b">From ")):
            problems.tell("The header ends without an empty line.")
            return found, at
        at = after
    if at >= end:
        return found, end
    problems.tell("The header is too large: not all of it is shown.")
    blank = _BLANK.search(raw, max(start, at - 2), end)
    return found, _line(raw, blank.end(), end)[1] if blank else end


def _continued(raw: bytes, at: int, end: int, room: int) -> tuple[int, bytes]:
    """Return where a field's continuation lines end, and their content: at most ``room`` bytes."""
    lines: list[bytes] = []
    while room > 0 and at < end and raw[at] in b" \t":
        line, at = _line(raw, at, end)
        line = b" " + line.strip()
        lines.append(line[:room])
        room -= len(line)
    rest = _FOLDED.match(raw, at, end)
    return rest.end() if rest else at, b"".join(lines)


def _line(raw: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Return a line without its end, and where the next one begins."""
    newline = raw.find(b"\n", at, end)
    stop = end if newline < 0 else newline
    return raw[at:stop].removesuffix(b"\r"), min(stop + 1, end)


def _part(reading: _Reading, start: int, end: int, depth: int, default: str) -> Part:
    fields, body = header(reading.raw, start, end, reading.problems)
    reading.left -= 1
    part = Part(fields, default_type(default), body, end)
    given = part.first(b"content-type")
    if given:
        part.type = content_type(given, reading.problems)
    if part.type.value.startswith("multipart/"):
        reading.looks -= 2 * (end - body)
        if depth >= DEPTH or reading.looks < 0:
            reading.problems.tell("Parts are nested too deep: some are one attachment.")
        else:
            _open(reading, part, depth)
    return part


def _open(reading: _Reading, part: Part, depth: int) -> None:
    """Find the parts of a multipart. One without any is shown as text."""
    default = "message/rfc822" if part.type.value == "multipart/digest" else "text/plain"
    for start, end in _spans(reading, part):
        if reading.left <= 0:
            break
        part.children.append(_part(reading, start, end, depth + 1, default))
    if not part.children:
        part.type = default_type("text/plain")


def _spans(reading: _Reading, part: Part) -> Iterator[tuple[int, int]]:
    """Yield where each part of a multipart begins and ends."""
    begun = None
    for start, end, last in _delimiters(reading, part):
        if begun is not None:
            if reading.left <= 1:  # for the part that is about to be yielded
                reading.problems.tell(f"There are more than {PARTS:,} parts: the last has all that follow.")
                break
            # The line end before a delimiter belongs to it.
            yield begun, max(begun, start - (reading.raw[start - 1 : start] == b"\r"))
        if last:
            return
        begun = end
    if begun is not None:
        reading.problems.tell("A multipart has no end.")
        yield begun, part.end


def _delimiters(reading: _Reading, part: Part) -> Iterator[tuple[int, int, bool]]:
    """Yield where each delimiter's line begins and ends, and whether it is the last of the multipart."""
    raw, end, boundary = reading.raw, part.end, _boundary(reading, part)
    if boundary is None:
        return
    begun = b"\n--" + boundary
    # Readers agree that white space after a delimiter is none of it (RFC 2046 §5.1.1).
    rest = re.compile(rb"(--)?[ \t]*+(?:(\r?\n)|\r?\Z)")
    at = raw.find(begun, max(0, part.start - 1), end)
    while at >= 0 and reading.misses > 0:
        found = rest.match(raw, at + len(begun), end)
        if found:
            yield at, found.end(), found[1] is not None
        else:
            reading.misses -= 1
        # The end of this line may be the beginning of the next delimiter.
        at = raw.find(begun, found.end() - 1 if found and found[2] else at + 1, end)


def _boundary(reading: _Reading, part: Part) -> bytes | None:
    """Return the boundary of a multipart; None if no line is a delimiter.

    If the field names none, or one that does not occur, the first line counts that looks like one.
    """
    boundary = part.type.octets("boundary")[:_LONGEST_BOUNDARY].rstrip()
    if boundary and reading.raw.find(b"\n--" + boundary, max(0, part.start - 1), part.end) >= 0:
        return boundary
    reading.problems.tell("A multipart does not name its boundary, or names another.")
    within = reading.raw[part.start : min(part.end, part.start + _LIKELY_WITHIN)]
    likely = _LIKELY.search(within)
    return likely[1] if likely else None
