"""Rewrites a header in ASCII for a server without SMTPUTF8 (in the spirit of RFC 6857 §3). Pure.

The same header always becomes the same octets, so that retries are byte-identical.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote

from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.folding import encoded_words, folded_lines
from mailbbgun.smtp.outcome import Phase
from mailbbgun.smtp.spooled import Raw, Spooled, header_of

# Fields that name the author: their addresses must stay.
_AUTHORS = frozenset({b"from", b"sender", b"resent-from", b"resent-sender"})
_MAILBOXES = frozenset(
    {b"to", b"cc", b"bcc", b"reply-to", b"resent-to", b"resent-cc", b"resent-bcc", b"resent-reply-to"}
)
_FREE_TEXT = frozenset({b"subject", b"comments", b"content-description"})
_WITH_PARAMETERS = frozenset({b"content-type", b"content-disposition"})
_PARAMETER = re.compile(rb';(\s*)([\w!#$&+.^`{|}~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
# `.` does not match LF. A line that begins with a blank continues the field.
_FIELD = re.compile(rb"^([!-9;-~]+):(.*(?:\r\n[ \t].*)*)\r\n", re.MULTILINE)


def header_is_ascii(raw: Raw) -> bool:
    """Return whether the header of a message is ASCII."""
    return raw.header_is_ascii if isinstance(raw, Spooled) else header_of(raw).isascii()


def downgraded(raw: Raw) -> Raw:
    """Return the message with its header in ASCII; unchanged if the header is ASCII already.

    A mailbox whose address is not ASCII becomes an empty group named by the encoded address
    (RFC 6857 §3.1.8). Free text becomes encoded words (RFC 2047). Any other field becomes a
    ``Downgraded-`` field (§3.2.3). Raises EnvelopeError 5.6.7 if an author's address is not ASCII,
    and for a file what `Spooled.header` raises.
    """
    if header_is_ascii(raw):
        return raw
    if isinstance(raw, Spooled):
        return raw.with_header(_FIELD.sub(_field, raw.header))
    header = header_of(raw)
    return _FIELD.sub(_field, header) + raw[len(header) :]


def part_header_in_ascii(header: bytes) -> bytes:
    """Return the header of a part, or of a mail attached to another, in ASCII.

    It is no header of the mail that is sent: its authors need not be reachable, so that their addresses become groups
    as well (RFC 6854). Octets that are not UTF-8 become U+FFFD, but in file names they stay.
    """
    ended = header if header.endswith(b"\r\n") else header + b"\r\n"
    return _FIELD.sub(lambda one: _field(one, of_part=True), ended)[: None if ended is header else -2]


def _field(found: re.Match[bytes], *, of_part: bool = False) -> bytes:
    if found[0].isascii():
        return found[0]
    name, kind = found[1], found[1].lower()
    if of_part and kind in _WITH_PARAMETERS and (value := _PARAMETER.sub(_parameter, found[2])).isascii():
        return b"%b:%b\r\n" % (name, value)
    text = re.sub(r"\r\n(?=[ \t])", "", found[2].decode("utf-8", "replace")).strip(" \t")
    if kind in _AUTHORS | _MAILBOXES:
        words = _mailboxes(text, replaceable=of_part or kind in _MAILBOXES)
    else:
        words = list(encoded_words(text))
        name = name if kind in _FREE_TEXT else b"Downgraded-" + name
    return "\r\n".join([*folded_lines(f"{name.decode()}:", words), ""]).encode()


def _parameter(found: re.Match[bytes]) -> bytes:
    """Return a parameter in ASCII: with percent signs and a charset (RFC 2231 §4)."""
    if found[0].isascii():
        return found[0]
    value = found[4] if found[3] is None else re.sub(rb"\\(.)", rb"\1", found[3].replace(b"\r\n", b""))
    charset = "utf-8" if _is_utf8(value) else ""
    return b";%b%b*=%b" % (found[1], found[2], f"{charset}''{quote(value, safe='')}".encode())


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mailboxes(text: str, *, replaceable: bool) -> list[str]:
    words: list[str] = []
    for one in _split(text):
        if words:
            words[-1] += ","
        words += one.split(" ") if one.isascii() else _mailbox(one, replaceable)
    return [word for word in words if word]


def _mailbox(text: str, replaceable: bool) -> list[str]:
    """Return the words of a mailbox whose address or display name is not ASCII."""
    name, address = "", text
    if text.endswith(">") and "<" in text:
        name, _, address = text[:-1].rpartition("<")
        name = name.strip(" \t")
    if address.isascii():
        return [*encoded_words(_unquoted(name)), f"<{address}>"]
    if not replaceable:
        raise EnvelopeError("5.6.7", "the server does not offer SMTPUTF8, which the address in From needs", Phase.MAIL)
    if name.isascii():
        return [*name.split(" "), *encoded_words(address), ":;"]
    # A reader drops blanks between encoded words (RFC 2047 §6.2), so the blank before the address
    # is encoded too.
    return [*encoded_words(f"{_unquoted(name)} "), *encoded_words(address), ":;"]


def _unquoted(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if len(name) > 1 and name[0] == name[-1] == '"' else name


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas; commas in quotes, brackets and comments do not count."""
    start, quoted, escaped, depth = 0, False, False, 0
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in "(<":
            depth += 1
        elif not quoted and character in ")>":
            depth -= 1
        elif not quoted and depth <= 0 and character == ",":
            yield text[start:position].strip(" \t")
            start = position + 1
    yield text[start:].strip(" \t")
