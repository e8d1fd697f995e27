"""The shapes of messages that are handed in. Imports little, so that light programs stay light.

All systems are compared by ``short``. ``mix`` is one message of each shape in turn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bench.programs.payload import DOMAIN, SENDER, SUBJECT, TEXT

MARK = b"########"
"""Placeholder in a request for the eight digits of the message's number."""

LETTERS = 4000  # characters of the paragraph and of the German text
RECIPIENTS = 20
HTML_SIZE, HTML_TEXT_SIZE = 12_000, 3000  # bytes: together 15 KB


@dataclass(frozen=True, slots=True)
class Shape:
    """A message without its sender and without the numbers in its recipients."""

    title: str
    subject: str
    text: str
    html: str = ""
    recipients: int = 1

    def addresses(self, number: str) -> list[str]:
        """Return the recipients of message ``number``.

        No address is used twice; all have one length.
        """
        if self.recipients == 1:
            return [f"u{number}@{DOMAIN}"]
        return [f"u{number}-{other:02}@{DOMAIN}" for other in range(self.recipients)]


def _repeated(text: str, length: int) -> str:
    """Return ``length`` characters, the last of them a newline."""
    return (text * (length // len(text) + 1))[: length - 1] + "\n"


_WORDS = (
    "Thank you for your order, which we have packed with care and handed to the carrier this morning; "
    "you will hear from us when it arrives. "
)
_ROW = (
    '<tr><td style="padding:8px 12px;border-bottom:1px solid #dde1e6">Reading lamp, brass &amp; oak</td>'
    '<td style="padding:8px 12px;text-align:right">2 &times; 49.90&nbsp;&euro;</td></tr>\n'
)
_PAGE = (
    '<!DOCTYPE html>\n<html lang="en"><body style="margin:0;font-family:Helvetica,Arial,sans-serif">\n'
    "<h1>Your order</h1>\n<table>\n%s</table>\n</body></html>\n"
)
_GERMAN = (
    "Vielen Dank für Ihre Bestellung! Die Grüße aus unserem Hause gehören natürlich dazu: "
    "Wir haben alles sorgfältig geprüft,\n"
    "verpackt und übergeben. Größe und Farbe können Sie bis Übermorgen ändern; "
    "außerdem erhalten Sie während der Lieferung\n"
    "eine kurze Nachricht, falls sich etwas verzögert.\n\n"
)
_JAPANESE = (
    "ご注文ありがとうございます。商品は本日発送いたしました。\n"
    "お届けまで今しばらくお待ちください。\nご不明な点は、このメールにご返信ください。\n\n"
)

SHAPES = {
    "short": Shape("short lines, 4 KB", SUBJECT, TEXT),
    "paragraph": Shape("one paragraph of 4,000 characters", SUBJECT, _repeated(_WORDS, LETTERS)),
    "html": Shape(
        "html + text, 15 KB",
        SUBJECT,
        _repeated(_WORDS[:70].rstrip() + "\n", HTML_TEXT_SIZE),
        _PAGE % (_ROW * (HTML_SIZE // len(_ROW))),
    ),
    "german": Shape("German, 4 KB", "Ihre Bestellung ist unterwegs – schöne Grüße", _repeated(_GERMAN, LETTERS)),
    "japanese": Shape("Japanese, 4 KB", "ご注文の商品を発送いたしました", _repeated(_JAPANESE, LETTERS // 3)),
    "recipients": Shape(f"short lines to {RECIPIENTS} recipients", SUBJECT, TEXT, recipients=RECIPIENTS),
}
SHORT, MIX = "short", "mix"
NAMES = (*SHAPES, MIX)


def title(name: str) -> str:
    """Return the name of a shape, or of the mix, in tables."""
    return SHAPES[name].title if name in SHAPES else f"mix of {len(SHAPES)}"


def of(name: str) -> Sequence[Shape]:
    """Return the shapes to send in turn: one, or all those of the mix."""
    return [SHAPES[name]] if name in SHAPES else list(SHAPES.values())


def requests(name: str, port: int, key: str = "") -> list[bytes]:
    """Return complete HTTP requests, to be sent in turn, with :data:`MARK` for the message's
    number.

    ``key`` is an API key to add to each.
    """
    return [_request(shape, port, key) for shape in of(name)]


def _request(shape: Shape, port: int, key: str) -> bytes:
    addresses = shape.addresses(MARK.decode())
    given = {
        "to": addresses if shape.recipients > 1 else addresses[0],
        "from": SENDER,
        "subject": shape.subject,
        "text": shape.text,
    }
    if shape.html:
        given["html"] = shape.html
    body = json.dumps(given, ensure_ascii=False).encode()
    shown = f"Authorization: Bearer {key}\r\n" if key else ""
    described = f"{shown}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST /messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{described}".encode() + body
