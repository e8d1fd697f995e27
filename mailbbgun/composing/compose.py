"""Composing: a content and what is a message's own become its MIME. Pure.

The same values always make the same bytes: the boundaries are derived from the message's id. The
result is in *pieces*: bytes, and files whose bytes are read, and encoded as base64, only while the
message is streamed. The parts are nested as mail programs expect them:

    multipart/mixed                     if there are attachments, or a calendar
        multipart/alternative           if there is more than one form of the text
            text/plain
            text/x-amp-html
            multipart/related           if files are shown within the HTML
                text/html
                the files
            text/calendar               what makes it an invitation for Outlook and Gmail
        invite.ics                      the same, for programs that only know files
        the attachments
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from mailbbgun.composing import mime
from mailbbgun.composing.body import LINE, encoded
from mailbbgun.composing.contents import Content, File, Personal
from mailbbgun.composing.filenames import content_type, disposition
from mailbbgun.composing.tracking import tracked
from mailbbgun.smtp.spooled import header_of
from mailbbgun.templates import engine

#: Types whose parts may not be encoded as base64 (RFC 2046 §5.1 and §5.2.1). Files of such a type go as
#: ``application/octet-stream``, so that their bytes stay as they are.
COMPOSITE = ("message/", "multipart/")

#: The name of the file that holds a calendar.
INVITATION = "invite.ics"

# An iCalendar line of METHOD, once lines are unfolded (RFC 5545 §3.1 and §3.7.2).
_METHOD = re.compile(r"^METHOD(?:;[^:\r\n]*)?:([A-Za-z-]+)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
# Where the first component of a calendar begins: METHOD is a property of the calendar itself.
_COMPONENT = re.compile(r"^BEGIN:(?!VCALENDAR)", re.MULTILINE | re.IGNORECASE)
_FOLDED = re.compile(r"\r?\n[ \t]")

Piece = bytes | File


class Own(NamedTuple):
    """What a message does not share with others that have its content."""

    id: UUID
    created_at: datetime
    #: In angle brackets.
    message_id_header: str
    subject: str
    personal: Personal


class Composed(NamedTuple):
    """A message in pieces. Bytes between files end with a line end; a file stands for its base64 lines."""

    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return sum(len(piece) if isinstance(piece, bytes) else encoded_size(piece.size) for piece in self.pieces)

    @property
    def whole(self) -> bytes:
        """The bytes of a message without files."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    @property
    def header(self) -> bytes:
        """The header with its last CRLF, without the empty line."""
        return header_of(self.pieces[0]) if self.pieces and isinstance(self.pieces[0], bytes) else b""

    @property
    def has_files(self) -> bool:
        """Whether a part of the message is in the blob store."""
        return any(isinstance(piece, File) for piece in self.pieces)


class MessageTexts(NamedTuple):
    """The texts of one message, with its variables' values in them."""

    subject: str
    text: str | None
    html: str | None
    amp_html: str | None


class _Part(NamedTuple):
    """A MIME part: its header, without the empty line, and its body."""

    header: bytes
    body: list[Piece]


def compose(content: Content, own: Own) -> Composed:
    """Return the message in pieces.

    Raises :class:`InvalidInput` with the field whose value cannot be sent in its header, or would
    break out of it.
    """
    texts = texts_of(content, own.subject, own.personal.values)
    head, names = mime.header(
        sender=content.sender,
        to=own.personal.to,
        cc=own.personal.cc,
        reply_to=content.reply_to,
        subject=texts.subject,
        message_id_header=own.message_id_header,
        date=own.created_at,
        headers={**content.headers, **own.personal.headers},
    )
    part = _Nesting(own.id).message(content, texts._replace(html=_tracked(content, own, texts.html)))
    pieces = _joined([head + b"MIME-Version: 1.0\r\n" + part.header + b"\r\n", *part.body])
    mime.check(b"".join(piece for piece in pieces if isinstance(piece, bytes)), names)
    return Composed(pieces)


def _tracked(content: Content, own: Own, html: str | None) -> str | None:
    """Return the HTML as it is sent."""
    if html is None or content.tracking is None or not own.personal.tracking_key:
        return html
    headers = {**content.headers, **own.personal.headers}
    return tracked(html, content.tracking, own.id, bytes.fromhex(own.personal.tracking_key), headers)


def texts_of(content: Content, subject: str, variables: Mapping[str, Any]) -> MessageTexts:
    """Return the texts of a message with this subject and these variables.

    Raises :class:`TemplateRefused` if a template cannot be rendered with them: accept has seen that it can.
    """
    if not content.templated:
        return MessageTexts(subject, content.text, content.html, content.amp_html)
    # The subject was rendered when the message was accepted.
    rendered = engine.render(engine.Sources("", content.text, content.html), variables)
    return MessageTexts(subject, rendered.text, rendered.html, content.amp_html)


def encoded_size(size: int) -> int:
    """Return the bytes that a file of ``size`` bytes takes as lines of base64."""
    characters = (size + 2) // 3 * 4
    return characters + (characters + LINE - 1) // LINE * 2


def base64_lines(octets: bytes) -> bytes:
    """Return octets as lines of base64, each with its CRLF.

    Only the last call for a file may be given a number of octets that 57 does not divide.
    """
    whole = b64encode(octets)
    lines = [whole[start : start + LINE] for start in range(0, len(whole), LINE)]
    return b"\r\n".join([*lines, b""])


def method_of(calendar: str) -> str | None:
    """Return the METHOD of an iCalendar object, in upper case; None if it has none (RFC 5545 §3.7.2)."""
    found = _METHOD.search(_COMPONENT.split(_FOLDED.sub("", calendar), maxsplit=1)[0])
    return found[1].upper() if found else None


class _Nesting:
    """Nests the parts of one message."""

    def __init__(self, message_id: UUID) -> None:
        self._seed = sha256(message_id.bytes).hexdigest()[:24]
        self._made = 0

    def message(self, content: Content, texts: MessageTexts) -> _Part:
        """Return the part that is the whole body."""
        inline = [one for one in content.files if one.inline] if texts.html is not None else []
        forms = [
            *([] if texts.text is None else [_text("plain", texts.text)]),
            *([] if texts.amp_html is None else [_text("x-amp-html", texts.amp_html)]),
            *([] if texts.html is None else [self._related(_text("html", texts.html), inline)]),
        ]
        attached = [_file(one, "attachment") for one in content.files if one not in inline]
        if content.calendar is not None:
            forms.append(_calendar(content.calendar))
            attached.insert(0, _invitation(content.calendar))
        text = forms[0] if len(forms) == 1 else self._multipart("alternative", forms)
        return self._multipart("mixed", [text, *attached]) if attached else text

    def _related(self, html: _Part, inline: Sequence[File]) -> _Part:
        """Return the HTML with the files that are shown within it (RFC 2387)."""
        if not inline:
            return html
        return self._multipart('related; type="text/html"', [html, *(_file(one, "inline") for one in inline)])

    def _multipart(self, subtype: str, parts: Sequence[_Part]) -> _Part:
        boundary = self._boundary(parts)
        body: list[Piece] = []
        for part in parts:
            body += [b"--%b\r\n%b\r\n" % (boundary, part.header), *part.body, b"\r\n"]
        body.append(b"--%b--\r\n" % boundary)
        return _Part(b'Content-Type: multipart/%b;\r\n boundary="%b"\r\n' % (subtype.encode(), boundary), body)

    def _boundary(self, parts: Sequence[_Part]) -> bytes:
        """Return a boundary that no part contains. Base64 never contains ``=_`` (RFC 2045 §6.8)."""
        while True:
            self._made += 1
            boundary = f"=_{self._seed}_{self._made}".encode()
            if not any(boundary in piece for part in parts for piece in part.body if isinstance(piece, bytes)):
                return boundary


def _text(subtype: str, text: str, *parameters: str) -> _Part:
    encoding, payload = encoded(text)
    kind = "; ".join([f'text/{subtype}; charset="utf-8"', *parameters])
    return _Part(f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding.decode()}\r\n".encode(), [payload])


def _calendar(calendar: str) -> _Part:
    method = method_of(calendar)
    return _text("calendar", calendar, *([f"method={method}"] if method else []))


def _invitation(calendar: str) -> _Part:
    # Lines of iCalendar end with CRLF (RFC 5545 §3.1).
    lines = "\r\n".join([*calendar.replace("\r\n", "\n").removesuffix("\n").split("\n"), ""])
    return _encoded_part("application/ics", "attachment", INVITATION, None, base64_lines(lines.encode()))


def _file(one: File, kind: str) -> _Part:
    declared = "application/octet-stream" if one.content_type.startswith(COMPOSITE) else one.content_type
    return _encoded_part(declared, kind, one.filename, one.content_id, one)


def _encoded_part(declared: str, kind: str, filename: str, content_id: str | None, body: Piece) -> _Part:
    header = content_type(declared, filename) + b"Content-Transfer-Encoding: base64\r\n" + disposition(kind, filename)
    if content_id is not None:
        header += f"Content-ID: <{content_id}>\r\n".encode()
    return _Part(header, [body])


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Join bytes that follow each other, so that few pieces are left."""
    joined: list[Piece] = []
    begun: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            begun.append(piece)
        else:
            joined += [b"".join(begun), piece]
            begun = []
    return [*joined, b"".join(begun)]
