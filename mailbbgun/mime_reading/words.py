"""Header fields become text: encoded words (RFC 2047), raw UTF-8 (RFC 6532), raw bytes. Pure."""

import binascii
import re

from mailbbgun.mime_reading.charsets import decoded
from mailbbgun.mime_reading.transfer import from_base64

# A charset may have a language after it (RFC 2231 §5). Blanks in the text are forbidden, and found.
WORD = re.compile(rb"=\?([!-)+->@-~]{1,60})(?:\*[^?\s]{0,30})?\?([bBqQ])\?([^?]*+)\?=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def field_text(value: bytes, charset: str | None = None) -> str:
    """Return a field's value as a person reads it, on one line.

    Args:
        charset: The charset of bytes that are not ASCII, if they are no UTF-8; None if not known.
    """
    encoded = b"=?" in value or not value.isascii()
    text = "".join(_pieces(value, charset)) if encoded else value.decode("ascii")
    return _CONTROL.sub(" ", text).strip()


def _pieces(value: bytes, charset: str | None) -> list[str]:
    """Decode a value piece by piece.

    White space between encoded words is none of the text (RFC 2047 §6.2). Neighbours in the same charset
    are decoded together, because many mailers cut a character in two.
    """
    done: list[str] = []
    waiting, of = b"", ""
    at = 0
    for match in WORD.finditer(value):
        between = value[at : match.start()]
        named, octets = match[1].decode("ascii").lower(), _octets(match[2], match[3])
        if between.strip() or not waiting or named != of:
            done.append(decoded(waiting, of).text if waiting else "")
            waiting = b""
            if between.strip() or at == 0:
                done.append(decoded(between, charset).text)
        waiting, of = waiting + octets, named
        at = match.end()
    done.append(decoded(waiting, of).text if waiting else "")
    done.append(decoded(value[at:], charset).text)
    return done


def _octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"bB":
        return from_base64(text)
    return binascii.a2b_qp(text.replace(b" ", b"_"), header=True)
