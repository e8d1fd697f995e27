"""Content-Type, Content-Disposition and their parameters, as they are found in mail. Pure.

RFC 2231 has charsets, percent signs and continuations; many mailers write encoded words into quotes
instead, which RFC 2047 §5 forbids, or bytes of any charset. All are read.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from mailbbgun.mime_reading.charsets import decoded
from mailbbgun.mime_reading.mail import FILENAME, Problems
from mailbbgun.mime_reading.words import field_text

_TYPE = re.compile(rb"\s*([\w!#$&^.+-]{1,80})\s*/\s*([\w!#$&^.+*-]{1,120})")
# A value in quotes may have no end; one without quotes has all until the next semicolon, also blanks.
_PARAMETER = re.compile(rb';\s*+([^\s=;"]{1,80})\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;"]*+))', re.DOTALL)
_COMMENT = re.compile(rb"\([^()]*\)\s*$")
_QUOTED = re.compile(rb'\\(["\\])')
_PIECE = re.compile(r"(.+?)\*(\d{1,4})(\*?)")
#: Parameters of a field that are read, at most.
_PARAMETERS = 200
# Control characters, and those that make a name look as if it ended in something else (Trojan Source).
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")

_BROKEN_TYPE = "A part has a Content-Type that is none."


@dataclass(frozen=True, slots=True)
class ContentField:
    """A value like ``text/plain`` or ``attachment``, in lower case, and its parameters as they stand."""

    value: str
    parameters: dict[str, bytes]

    def octets(self, name: str) -> bytes:
        """Return a parameter's bytes; b"" if it is not there."""
        return self.parameters.get(name) or (_extended(self.parameters, name) or (b"", None))[0]

    def word(self, name: str) -> str:
        """Return a parameter whose value is a word, in lower case; "" if it is not there."""
        return self.octets(name)[:100].decode("latin-1").strip().lower()

    def text(self, name: str, charset: str | None) -> str:
        """Return a parameter that a person shall read. ``charset``: that of the mail, for bare bytes."""
        extended = _extended(self.parameters, name)
        if extended is not None and extended[1] != "":
            return decoded(extended[0], extended[1] or charset).text
        value = self.parameters.get(name, extended[0] if extended else b"")
        return field_text(value, charset)


def default_type(value: str) -> ContentField:
    """Return the type of a part whose header names none (RFC 2045 §5.2, RFC 2046 §5.1.5)."""
    return ContentField(value, {})


def content_type(field: bytes, problems: Problems) -> ContentField:
    """Return a Content-Type. One that is none is plain text, or a file if it has a name."""
    found = _TYPE.match(field)
    parameters = _parameters(field)
    if found:
        return ContentField(f"{found[1].decode('latin-1')}/{found[2].decode('latin-1')}".lower(), parameters)
    problems.tell(_BROKEN_TYPE)
    bare = field.partition(b";")[0].strip().lower()
    if bare in {b"html", b"text/"}:
        return ContentField("text/html" if bare == b"html" else "text/plain", parameters)
    named = any(key.startswith("name") for key in parameters)
    return ContentField("application/octet-stream" if named else "text/plain", parameters)


def disposition(field: bytes) -> ContentField:
    """Return a Content-Disposition. Its value is "" if there is none."""
    value = field.partition(b";")[0].strip()[:80].decode("latin-1").lower()
    # Some mailers leave out the value, or the semicolon after it.
    if "=" in value:
        return ContentField("attachment", _parameters(b";" + field))
    return ContentField(value, _parameters(field))


def filename(disposed: ContentField, typed: ContentField, charset: str | None) -> str | None:
    """Return the name of a part's file, without folders and what cannot be seen; None if it has none."""
    name = disposed.text("filename", charset) or typed.text("name", charset)
    return safe_name(name)


def safe_name(name: str) -> str | None:
    """Return a file's name without folders and what cannot be seen; None if nothing is left."""
    name = re.split(r"[/\\]", _UNSEEN.sub("", name).strip().rstrip("/\\"))[-1].strip()
    if len(name) > FILENAME:
        stem, dot, extension = name.rpartition(".")
        ending = dot + extension if stem and len(extension) <= 10 else ""
        name = name[: FILENAME - len(ending)] + ending
    return None if name in {"", ".", ".."} else name


def _parameters(field: bytes) -> dict[str, bytes]:
    """Return what each parameter says, the first of those with one name."""
    found: dict[str, bytes] = {}
    for match in _PARAMETER.finditer(field):
        name = match[1].decode("latin-1").lower()
        value = _QUOTED.sub(rb"\1", match[2]) if match[2] is not None else _COMMENT.sub(b"", match[3]).strip()
        found.setdefault(name, value)
        if len(found) >= _PARAMETERS:
            break
    return found


def _extended(parameters: dict[str, bytes], name: str) -> tuple[bytes, str | None] | None:
    """Return the bytes of a value in the forms of RFC 2231, and their charset.

    The charset is None if the value names none, and "" if it is only continued, without percent signs.
    """
    whole = parameters.get(f"{name}*")
    if whole is not None:
        return _percent(whole, first=True)
    pieces = {}
    for key, value in parameters.items():
        match = _PIECE.fullmatch(key)
        if match and match[1] == name:
            pieces[int(match[2])] = (value, bool(match[3]))
    if 0 not in pieces:
        return None
    octets, charset, encoded = [], None, any(extended for _value, extended in pieces.values())
    for number in range(len(pieces)):
        if number not in pieces:
            break
        value, extended = pieces[number]
        if extended:
            value, given = _percent(value, first=number == 0)
            charset = given if number == 0 else charset
        octets.append(value)
    return b"".join(octets), charset if encoded else ""


def _percent(value: bytes, *, first: bool) -> tuple[bytes, str | None]:
    """Return the bytes of a value with percent signs, and the charset before its apostrophes."""
    charset, _apostrophe, rest = value.partition(b"'")
    _language, apostrophe, text = rest.partition(b"'")
    if first and apostrophe:
        return unquote_to_bytes(text), charset.decode("latin-1") or None
    return unquote_to_bytes(value), None
