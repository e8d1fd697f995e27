"""Bytes become text, also where the charset is missing, unknown or wrong. Pure.

A charset that is named and fits is believed, with two exceptions that mail shows to be lies: UTF-8
that is called ASCII or Latin-1, and names that mean more than they say (``gb2312`` for GBK, ``iso-8859-1``
for windows-1252), as the Encoding Standard has it.
"""

import codecs
import re
from dataclasses import dataclass

from mailbbgun.mime_reading.guessing import guessed

# What programs call charsets, or what they mean by a name; without signs.
_MEANT = {
    "usascii": "cp1252", "ascii": "cp1252", "ansix341968": "cp1252", "iso88591": "cp1252", "latin1": "cp1252",
    "l1": "cp1252", "88591": "cp1252", "iso885915": "iso8859-15", "iso88599": "cp1254", "latin5": "cp1254",
    "iso885911": "cp874", "tis620": "cp874", "windows874": "cp874", "gb2312": "gb18030", "gbk": "gb18030",
    "xgbk": "gb18030", "cp936": "gb18030", "csgb2312": "gb18030", "euccn": "gb18030", "windows936": "gb18030",
    "ksc56011987": "cp949", "ksc5601": "cp949", "euckr": "cp949", "windows949": "cp949", "shiftjis": "cp932",
    "sjis": "cp932", "xsjis": "cp932", "windows31j": "cp932", "cp943c": "cp932", "big5": "big5hkscs", "xxbig5": "cp950",
    "iso2022jp": "iso2022_jp_ext", "csiso2022jp": "iso2022_jp_ext", "cp50220": "iso2022_jp_ext", "cp50221":
    "iso2022_jp_ext", "iso88598i": "iso8859-8", "iso88598e": "iso8859-8", "iso88596i": "iso8859-6",
    "unicode11utf8": "utf-8", "unicode11utf7": "utf-7", "utf8mb4": "utf-8", "xmaccyrillic": "mac-cyrillic",
    "xmacroman": "mac-roman", "macintosh": "mac-roman", "hzgb2312": "hz", "visual": "iso8859-8", "koi8": "koi8-r",
}  # fmt: skip
#: Codecs of Python that are no charsets. ``punycode`` takes time that grows with the square of the size.
_NO_CHARSETS = {"punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined"}
#: Charsets in which anything is text: UTF-8 that is called so is UTF-8.
_ANYTHING = {"cp1252", "iso8859-15", "cp1254", "cp1250", "iso8859-2", "cp850", "cp437", "mac-roman"}
_SIGNS = re.compile(r"[^a-z0-9]")
# What is no text, or may not be stored as text; escape sequences of ISO 2022 have gone by then.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
#: Of a text, the part that may be broken and its charset is still believed.
_FEW = 50


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the charset it was decoded from, and what was wrong with the one that was named."""

    text: str
    charset: str
    problem: str | None = None


def decoded(data: bytes, named: str | None) -> Decoded:
    """Return the text that bytes stand for. ``named``: the charset that the sender names, if any."""
    codec = _codec(named) if named else None
    found = _marked(data) or _as_named(data, codec) or _otherwise(data, codec)
    # Of a name nobody knows nothing is lost if the text is ASCII.
    unknown = bool(named) and codec is None and not data.isascii() and found.problem is None
    problem = f"The charset {named[:40]!r} is not known." if unknown and named else found.problem
    return Decoded(_clean(found.text), found.charset, problem)


def _codec(name: str) -> str | None:
    """Return the codec for a charset's name; None if there is none."""
    bare = _SIGNS.sub("", name[:60].lower())
    try:
        codec = codecs.lookup(_MEANT.get(bare, name[:60].strip())).name
        # Bytes refuse codecs that make no text, like zlib.
        b"a".decode(codec, "replace")
    except (LookupError, ValueError):
        return None
    return None if codec.replace("-", "_") in _NO_CHARSETS else codec


def _marked(data: bytes) -> Decoded | None:
    """Return text that begins with a byte order mark."""
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return Decoded(data[len(mark) :].decode(codec, "replace"), codec)
    return None


def _as_named(data: bytes, codec: str | None) -> Decoded | None:
    """Return the text if the charset fits it."""
    if codec is None or (codec in _ANYTHING and not data.isascii() and _is_utf8(data)):
        return None
    if codec == "cp1252" and b"\x1b$" in data:
        return None
    text = _strictly(data, codec)
    return None if text is None else Decoded(text, codec)


def _otherwise(data: bytes, codec: str | None) -> Decoded:
    """Return the text of bytes whose charset is not named, or does not fit."""
    wrong = None if codec is None else f"The text is not in the charset that it names, {codec}."
    if codec not in {None, "utf-8"} and not data.isascii() and not (codec in _ANYTHING and _is_utf8(data)):
        # Most is right, and a few bytes are broken: a mailer cut it, or somebody pasted.
        text = _with_replacements(data, codec or "utf-8")
        if text.count("\ufffd") * _FEW <= len(text):
            return Decoded(text, codec or "utf-8", wrong)
    if _is_utf8(data) and b"\x1b" not in data:
        return Decoded(data.decode(), "utf-8", wrong if not data.isascii() else None)
    text = data.decode("utf-8", "replace")
    if not data.isascii() and text.count("\ufffd") * _FEW <= sum(not one.isascii() for one in text[:100_000]):
        return Decoded(text, "utf-8", "The text has bytes that are not in its charset.")
    best = guessed(data) or "cp1252"
    return Decoded(_with_replacements(data, best), best, wrong or f"The text names no charset: it looks like {best}.")


def _with_replacements(data: bytes, codec: str) -> str:
    if codec == "cp1252":  # as the Encoding Standard has it: bytes that windows-1252 lacks are controls
        return _latin(data)
    try:
        return data.decode(codec, "replace")
    except UnicodeError:
        return data.decode("utf-8", "replace")


def _strictly(data: bytes, codec: str) -> str | None:
    if codec == "cp1252":
        return _latin(data)
    try:
        return data.decode(codec)
    except UnicodeError:
        return None


def _latin(data: bytes) -> str:
    """Decode windows-1252, in which all bytes are text."""
    return data.decode("cp1252", "replace") if data.isascii() else data.translate(_DEFINED).decode("cp1252")


# The five bytes that windows-1252 leaves out become question marks.
_DEFINED = bytes(0x3F if one in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else one for one in range(256))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _clean(text: str) -> str:
    """Return text without what PostgreSQL and JSON cannot hold, and without other control characters."""
    return _SURROGATE.sub("\ufffd", _NO_TEXT.sub("", text))
