"""Reads what people are shown of finished MIME in a list: From, Subject, Message-ID, whether there are files. Pure.

The header may be anything: what cannot be read is shown as it is, or left out. Time and memory are
bounded by the size of the header.
"""

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parseaddr
from typing import NamedTuple

from mailbbgun.composing.mime import Mailbox, as_one_line

#: Octets of a header that are looked at.
HEADER_SIZE = 262_144
#: Octets of the whole mail in which attachments are looked for.
SEARCHED_SIZE = 32_000_000
#: Characters of a field that are decoded: decoding takes more than linear time.
DECODED_SIZE = 4_000
#: Characters of a display name, of an address, and of a Message-ID, that are kept.
NAME_SIZE, ADDRESS_SIZE, MESSAGE_ID_SIZE = 256, 254, 250

_UNFOLDED = re.compile(rb"\r?\n(?![ \t])")  # where a field ends
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_ATTACHED = re.compile(rb"\ncontent-disposition:[ \t]*attachment", re.IGNORECASE)
_MULTIPART = re.compile(rb"multipart/", re.IGNORECASE)


class MailSummary(NamedTuple):
    """What is shown of a mail. All are one line, and empty if the mail has no such thing."""

    sender: Mailbox
    subject: str
    message_id_header: str
    has_attachments: bool


def shown(raw: bytes) -> MailSummary:
    """Return what is shown of a mail."""
    values: dict[bytes, str] = {}
    for name, value in _fields(raw):
        values.setdefault(name, value)
    message_id = as_one_line(values.get(b"message-id", ""))
    return MailSummary(
        _sender(values.get(b"from", "")),
        as_one_line(decoded(values.get(b"subject", ""))),
        message_id if len(message_id) <= MESSAGE_ID_SIZE else "",
        bool(_MULTIPART.search(values.get(b"content-type", "").encode()))
        and _ATTACHED.search(raw, 0, SEARCHED_SIZE) is not None,
    )


def decoded(text: str) -> str:
    """Return a field's text with its encoded words decoded (RFC 2047); unchanged if they are broken."""
    text = text[:DECODED_SIZE]
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _fields(raw: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield the name in lower case, and the unfolded value, of each field of the header."""
    ends = [at for at in (raw.find(mark, 0, HEADER_SIZE) for mark in (b"\r\n\r\n", b"\n\n")) if at >= 0]
    for field in _UNFOLDED.split(raw[: min(ends, default=HEADER_SIZE)]):
        name, colon, value = field.partition(b":")
        if colon:
            yield name.strip().lower(), _FOLD.sub("", value.decode("utf-8", "replace")).strip()


def _sender(text: str) -> Mailbox:
    """Return the first mailbox of a From field."""
    try:
        name, address = parseaddr(text[:DECODED_SIZE])
    except RecursionError:  # it calls itself for each comment in a comment, and each group in a group
        name, address = "", ""
    if "@" not in address:
        return Mailbox(as_one_line(decoded(text))[:NAME_SIZE].strip(), "")
    return Mailbox(as_one_line(decoded(name))[:NAME_SIZE].strip(), as_one_line(address)[:ADDRESS_SIZE])
