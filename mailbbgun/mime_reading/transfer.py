"""Undoing what was done to a text for its way. Pure.

That is its transfer encoding (RFC 2045 §6), also where it is broken, and lines that flow (RFC 3676).
"""

import binascii
import re

_BROKEN_BASE64 = "A part in base64 is broken."
_UNKNOWN = "A part has an unknown Content-Transfer-Encoding."

_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_WHITE = b" \t\r\n"
_PADDING = re.compile(rb"=++")
#: Pieces of base64 that each have padding, at most. Of what follows, one more is decoded.
_PIECES = 1_000
_PLAIN = {"", "7bit", "8bit", "binary", "7-bit", "8-bit", "7bits", "8bits", "none"}
#: Lines that are joined into one paragraph, at most.
_LINES = 10_000
_WORD = re.compile(r"[a-z0-9-]+")


def named(field: str) -> str:
    """Return the name of a transfer encoding from its field, without what does not belong there."""
    found = _WORD.search(field[:200].lower())
    return found[0] if found else ""


def undone(data: bytes, encoding: str) -> tuple[bytes, str | None]:
    """Return the bytes that an encoding stands for, and what is wrong with them.

    An unknown encoding, like that of uuencoded text, is left as it is.
    """
    if encoding in {"base64", "base-64", "b"}:
        return _from_base64(data)
    if encoding in {"quoted-printable", "quotedprintable", "q"}:
        return binascii.a2b_qp(data), None
    return data, None if encoding in _PLAIN else _UNKNOWN


def from_base64(data: bytes) -> bytes:
    """Return what base64 stands for, as far as it is base64. No bytes raise an error."""
    return _from_base64(data)[0]


def _from_base64(data: bytes) -> tuple[bytes, str | None]:
    """Decode base64 that may be several, one after the other, or may have a list's footer after it."""
    bare = data.translate(None, _NO_BASE64)
    strange = len(bare) != len(data.translate(None, _WHITE))
    first = _PADDING.search(bare)
    if first is None or first.end() == len(bare):
        whole = bare[: first.start()] if first else bare
        return _quads(whole), _BROKEN_BASE64 if strange or len(whole) % 4 == 1 else None
    end = data.index(b"=") + 1
    rest = data[end:].lstrip(_WHITE + b"=")
    if strange:  # text after the padding, which was never encoded
        return _quads(bare[: first.start()]) + b"\r\n" + rest, _BROKEN_BASE64
    return b"".join(map(_quads, _PADDING.split(bare, _PIECES))), _BROKEN_BASE64


def _quads(bare: bytes) -> bytes:
    """Decode letters of base64, and drop one that is left over."""
    if len(bare) % 4 == 1:
        bare = bare[:-1]
    return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4))


def unflowed(text: str, *, delete_space: bool) -> str:
    """Return text with its flowed lines joined and its space-stuffing undone.

    A line that ends with a space goes on in the next line of the same quote depth (§4.1). With
    ``delete_space`` (DelSp=yes, §4.2) that space is no part of the text. Quoted paragraphs get their
    marks and one space before them (§4.5).
    """
    done: list[str] = []
    paragraph: list[str] = []
    depth = 0

    def end() -> None:
        if paragraph:
            done.append((">" * depth + " " if depth else "") + "".join(paragraph))
            paragraph.clear()

    for line in text.split("\n"):
        content = line.lstrip(">")
        now = len(line) - len(content)
        content = content.removeprefix(" ")
        # A signature's mark is never joined to anything (§4.3).
        signature = content == "-- "
        if paragraph and (now != depth or signature or len(paragraph) >= _LINES):
            end()
        depth = now
        flows = content.endswith(" ") and not signature
        paragraph.append(content[:-1] if flows and delete_space else content)
        if not flows:
            end()
    end()
    return "\n".join(done)
