"""Names of files in MIME headers (RFC 2045, RFC 2183, RFC 2231). Pure.

Content-Disposition has the name itself: in quotes if it is short plain ASCII, else as RFC 2231 says.
It is never an encoded word, which RFC 2047 §5 forbids there. Content-Type has the name in plain
ASCII, for the few readers that know no RFC 2231.
"""

import re
import unicodedata

from mailbbgun.smtp.folding import LINE

#: Characters of an ASCII name, at most. Longer names are cut, before their extension.
_ASCII_SIZE = 60

# Characters that need no quoting in an RFC 2231 value (attribute-char), less a few that some readers misread.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Printable ASCII but quote and backslash, and no blank at either end or beside another: readers strip those.
_QUOTABLE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}$")
# Letters that Unicode does not decompose.
_LETTERS = str.maketrans({
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "œ": "oe",
    "Œ": "OE", "ı": "i", "þ": "th", "Þ": "Th", "–": "-", "—": "-", "’": "'", "‘": "'", "“": "'", "”": "'", '"': "'",
    "\\": "_",
})  # fmt: skip


def disposition(kind: str, filename: str) -> bytes:
    """Return the Content-Disposition field of a part, with its line end. ``kind``: attachment or inline."""
    return _field(f"Content-Disposition: {kind}", parameter("filename", filename))


def content_type(value: str, filename: str) -> bytes:
    """Return the Content-Type field of a file's part, with its line end."""
    return _field(f"Content-Type: {value}", [f'name="{ascii_name(filename)}"'])


def parameter(name: str, value: str) -> list[str]:
    """Return a parameter of a header field as the pieces that each may have a line to itself.

    A value of short plain ASCII is one quoted string. Any other is written in UTF-8 as RFC 2231 §4
    says, and in several pieces if it is long (§3). No piece ends within a character.
    """
    # Some readers would decode what looks like an encoded word.
    if _QUOTABLE.fullmatch(value) and "=?" not in value and len(name) + len(value) + 4 < LINE:
        return [f'{name}="{value}"']
    whole = "".join(map(_escaped, value))
    if len(name) + len(whole) + 12 < LINE:
        return [f"{name}*=utf-8''{whole}"]
    pieces: list[str] = []
    begun = f"{name}*0*=utf-8''"
    for character in value:
        octets = _escaped(character)
        if len(begun) + len(octets) + 2 > LINE:
            pieces.append(begun)
            begun = f"{name}*{len(pieces)}*="
        begun += octets
    return [*pieces, begun]


def ascii_name(filename: str) -> str:
    """Return a name in plain ASCII that resembles a file's, without quotes and backslashes."""
    found = _EXTENSION.search(filename)
    extension = found[0] if found else ""
    plain = unicodedata.normalize("NFKD", filename.removesuffix(extension).translate(_LETTERS)).translate(_LETTERS)
    stem = "".join(one for one in plain if " " <= one <= "~").strip(" .")
    return (stem[: _ASCII_SIZE - len(extension)].rstrip(" .") or "attachment") + extension


def _escaped(character: str) -> str:
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in character.encode())


def _field(begun: str, parameters: list[str]) -> bytes:
    whole = "; ".join([begun, *parameters])
    if len(whole) > LINE:
        whole = ";\r\n ".join([begun, *parameters])
    return whole.encode() + b"\r\n"
