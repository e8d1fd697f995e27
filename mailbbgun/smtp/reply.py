"""Parses a server's replies (RFC 5321 §4.2) within bounds, into text that is safe to show.

It knows no socket. Everything a server says may come from an attacker, and ends up in logs, pages
and webhooks.
"""

import functools
import re
from dataclasses import dataclass

#: Octets of one reply line. RFC 5321 §4.5.3.1.5 allows 512; real servers exceed that.
MAX_LINE = 4096

#: Lines of one reply.
MAX_LINES = 128

#: Octets of one reply, all lines together.
MAX_REPLY = 64 * 1024

#: Octets of a reply line that is worth to be remembered, with its line end.
_SHORT = 66

_BLANK = ord(" ")

#: Octets (UTF-8) of the text that is kept.
MAX_TEXT = 2048

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)", re.ASCII)
_QMAIL = re.compile(r"#([45]\.\d{1,3}\.\d{1,3})\b", re.ASCII)


class ProtocolError(Exception):
    """The octets are not a reply of RFC 5321 §4.2, or exceed the bounds above.

    The exception's text is safe to show.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said, or (code 0) our own diagnosis where the server said nothing.

    `code` is the three-digit code, `enhanced` the code of RFC 3463 if there is one. `text` is the
    rest of all lines, joined by spaces: printable, at most `MAX_TEXT` octets.
    """

    code: int
    enhanced: str | None
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code) if self.code else "", self.enhanced, self.text) if part)


# A server answers most messages with the same few words ("250 2.1.0 Ok"), and parsing a reply costs
# as much as receiving it. The cache is bounded in entries and, by the length limit, in octets.
@functools.lru_cache(maxsize=256)
def _parse_line(line: bytes) -> Reply:
    line = line.rstrip(b"\r")
    _check(line)
    return parse_reply(int(line[:3]), [line])


def _check(line: bytes) -> None:
    code = line[:3]
    if not (len(code) == 3 and code.isdigit() and b"2" <= code < b"6" and line[3:4] in b" -"):
        raise ProtocolError(f"not an SMTP reply: {safe(line[:80].decode('utf-8', 'replace'))!r}")


def parse_reply(code: int, lines: list[bytes]) -> Reply:
    """Return the reply in these lines, which `ReplyBuffer.take` returned with the code."""
    text = lines[0][4:].decode("utf-8", "replace")
    found = _ENHANCED.match(text) if text[1:2] == "." else None
    if found:
        text = text[found.end() :]
    if len(lines) > 1:
        text = " ".join([text, *(_continued(line, found and found[1]) for line in lines[1:])])
    text = safe(text)
    if found is None and code >= 400:
        # qmail and its successors put the code last: "sorry, no mailbox here (#5.1.1)".
        found = _QMAIL.search(text)
    return Reply(code, found[1] if found else None, text)


def safe(text: str) -> str:
    """Return at most `MAX_TEXT` octets of `text`, all of them printable.

    Control, format (bidi) and unassigned characters are replaced.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: 2 * MAX_TEXT])
    text = text[:MAX_TEXT].strip()
    return text if text.isascii() else text.encode()[:MAX_TEXT].decode("utf-8", "ignore")


def _continued(line: bytes, enhanced: str | None) -> str:
    # RFC 2034 §4: a server repeats the enhanced code on every line of a reply.
    text = line[4:].decode("utf-8", "replace")
    return text[len(enhanced) :].lstrip() if enhanced and text.startswith(enhanced) else text


class ReplyBuffer:
    """Received octets that are not parsed yet, and the lines of the reply so far.

    `add()` octets, then call `take()`. Octets after a whole reply are kept for the next one: with
    RFC 2920 several replies come in one segment.
    """

    __slots__ = ("_held", "_lines", "_octets", "_start")

    def __init__(self) -> None:
        self._held = b""
        self._start = 0  # what stands before it was taken
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is held, not even part of a reply."""
        return self._start == len(self._held) and not self._lines

    def add(self, data: bytes) -> None:
        """Add received octets."""
        self._held, self._start = self._held[self._start :] + data, 0

    def next(self) -> Reply | None:
        """Return the next whole reply, or None if more octets are needed. Raises like `take`."""
        held, start = self._held, self._start
        stop = held.find(b"\n", start)
        if 4 < stop - start <= _SHORT and held[start + 3] == _BLANK and not self._lines:  # as most are
            self._start = stop + 1
            return _parse_line(held[start:stop])
        taken = self.take()
        return parse_reply(*taken) if taken else None

    def take(self) -> tuple[int, list[bytes]] | None:
        """Return the code and raw lines (without line ends) of the next whole reply.

        Returns None if more octets are needed. Raises ProtocolError if the reply is malformed or
        too large; nothing can be read after that.
        """
        while (stop := self._held.find(b"\n", self._start)) >= 0:
            line = self._held[self._start : stop].rstrip(b"\r")
            self._start = stop + 1
            if self._add(line):
                lines, self._lines, self._octets = self._lines, [], 0
                return int(line[:3]), lines
        if len(self._held) - self._start >= MAX_LINE:
            raise ProtocolError(f"a reply line is longer than {MAX_LINE} octets")
        return None

    def _add(self, line: bytes) -> bool:
        """Add one line to the reply; return whether it is the last line."""
        _check(line)
        if self._lines and self._lines[0][:3] != line[:3]:
            raise ProtocolError("the lines of one reply carry different codes")
        self._lines.append(line)
        self._octets += len(line) + 2
        if len(line) > MAX_LINE or len(self._lines) > MAX_LINES or self._octets > MAX_REPLY:
            raise ProtocolError(f"a reply is larger than {MAX_LINES} lines or {MAX_REPLY} octets")
        return line[3:4] != b"-"
