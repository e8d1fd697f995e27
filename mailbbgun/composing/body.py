"""Bodies: text and HTML become MIME parts (RFC 2045, RFC 2046), always 7-bit. Pure.

The bytes are the same as those of the standard library's ``EmailMessage`` (a property test compares
them). This module calls the library's C encoders directly: ``EmailMessage`` costs ten times as much.
"""

import binascii
import os

#: Octets of a line, at most, whether encoded (RFC 2045 §6.7 (5) and §6.8) or sent as it is.
LINE = 76
#: How many first lines decide whether quoted-printable or base64 is shorter.
SAMPLE = 10

_SPACE = (b" ", b"\t")
_QUOTED = {b" ": b"=20", b"\t": b"=09"}
_EQUALS = ord("=")


def body(text: str | None, html: str | None, boundary: str | None = None) -> bytes:
    """Return the MIME headers, the empty line and the encoded body, with CRLF line ends.

    At least one of ``text`` and ``html`` is given. With both, the body is a ``multipart/alternative``.
    Its ``boundary`` is by default a random one that no part contains.
    """
    if text is None or html is None:
        subtype, given = ("plain", text) if text is not None else ("html", html or "")
        encoding, payload = encoded(given)
        return _head(subtype, encoding, mime_version_last=True) + payload
    parts = [(subtype, *encoded(given)) for subtype, given in (("plain", text), ("html", html))]
    separator = (
        boundary.encode() if boundary else _boundary([payload for _, encoding, payload in parts if encoding == b"7bit"])
    )
    (plain, plain_encoding, plain_payload), (rich, rich_encoding, rich_payload) = parts
    return b"".join(
        (
            b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="%b"\r\n\r\n--%b\r\n'
            % (separator, separator),
            _head(plain, plain_encoding, mime_version_last=False),
            plain_payload,
            b"\r\n--%b\r\n" % separator,
            _head(rich, rich_encoding, mime_version_last=True),
            rich_payload,
            b"\r\n--%b--\r\n" % separator,
        )
    )


def encoded(text: str) -> tuple[bytes, bytes]:
    """Return a text's content transfer encoding, and the encoded text. Each line ends in CRLF.

    ASCII in lines of at most 76 octets is sent as it is; any other text as quoted-printable or
    base64, whichever makes its first lines shorter.
    """
    octets = text.encode()
    if b"\r" in octets:
        octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not octets.endswith(b"\n"):
        octets += b"\n"
    lines = octets.split(b"\n")
    lines.pop()  # what follows the last line end
    if octets.isascii() and max(map(len, lines)) <= LINE:
        return b"7bit", octets.replace(b"\n", b"\r\n")
    quoted = _quoted_printable(octets, lines)
    return (b"base64", _base64(octets)) if quoted is None else (b"quoted-printable", quoted)


def _head(subtype: str, encoding: bytes, *, mime_version_last: bool) -> bytes:
    version = b"MIME-Version: 1.0\r\n" if mime_version_last else b""
    return b'Content-Type: text/%b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n%b\r\n' % (
        subtype.encode(),
        encoding,
        version,
    )


def _boundary(plain: list[bytes]) -> bytes:
    """Return a boundary that no part contains. ``plain``: the parts that are not encoded.

    Encoded parts never contain ``=_`` (RFC 2045 §6.7).
    """
    while True:
        boundary = b"=_" + os.urandom(12).hex().encode()
        if not any(boundary in payload for payload in plain):
            return boundary


def _quoted_printable(octets: bytes, lines: list[bytes]) -> bytes | None:
    """Return the text as quoted-printable; None if base64 makes its first lines shorter.

    ``octets`` are ``lines``, each with LF.
    """
    sample = lines[:SAMPLE]
    size = sum(map(len, sample))
    # The size of the sample in base64: there its lines end in CRLF, and the whole in LF.
    shortest = (size + 2 * len(sample) + 2) // 3 * 4 + 1
    if size + len(sample) + 2 * sum(len(line.translate(None, _UNQUOTED)) for line in sample) > shortest:
        return None
    escaped = _escaped(octets).split(b"\n")
    escaped.pop()
    pieces = _wrapped(escaped[:SAMPLE])
    if sum(map(len, pieces)) + len(pieces) > shortest:
        return None
    return b"\r\n".join([*pieces, *_wrapped(escaped[SAMPLE:]), b""])


_PRINTABLE = bytes(range(32, 127)) + b"\t\n"
_UNQUOTED = _PRINTABLE.replace(b"=", b"")  # octets that quoted-printable leaves as they are


def _escaped(octets: bytes) -> bytes:
    """Return octets, whose lines end in LF, with ``=XX`` for each that quoted-printable escapes."""
    if not octets.translate(None, _PRINTABLE):
        return octets.replace(b"=", b"=3D")
    # The C encoder also breaks long lines, and escapes blanks at line ends and lines of a single dot. Both
    # are undone here, safely: every other "=" is escaped, so these marks are the encoder's own.
    escaped = binascii.b2a_qp(octets, istext=True).replace(b"=\n", b"")
    for plain, quoted in ((b" ", b"=20"), (b"\t", b"=09"), (b".", b"=2E")):
        if plain + b"\n" in octets:
            escaped = escaped.replace(quoted, plain)
    return escaped


def _wrapped(lines: list[bytes]) -> list[bytes]:
    pieces: list[bytes] = []
    for line in lines:
        if len(line) > LINE or line.endswith(_SPACE):
            _wrap(line, pieces)
        else:
            pieces.append(line)
    return pieces


def _wrap(line: bytes, pieces: list[bytes]) -> None:
    """Add an escaped line to ``pieces``: with soft line breaks after 76 octets, and no blank at its end."""
    start, size = 0, len(line)
    while size - start > LINE:
        cut = start + LINE - 1
        if line[cut - 1] == _EQUALS:
            cut -= 1
        elif line[cut - 2] == _EQUALS:
            cut -= 2
        pieces.append(line[start:cut] + b"=")
        start = cut
    if not line.endswith(_SPACE):
        pieces.append(line[start:])
        return
    blank, room = line[-1:], LINE + 1 - (size - start)
    if room >= 3:  # for the blank, escaped
        pieces.append(line[start:-1] + _QUOTED[blank])
    elif room == 2:  # for the blank and a soft line break
        pieces += (line[start:] + b"=", b"")
    else:
        pieces += (line[start:-1] + b"=", _QUOTED[blank])


def _base64(octets: bytes) -> bytes:
    whole = binascii.b2a_base64(octets.replace(b"\n", b"\r\n"), newline=False)
    pieces = [whole[start : start + LINE] for start in range(0, len(whole), LINE)]
    pieces.append(b"")
    return b"\r\n".join(pieces)
