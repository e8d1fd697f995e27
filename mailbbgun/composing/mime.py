"""Composing: checked parts become the bytes of the message (RFC 5322, 2045–2047, 6532). Pure.

This module renders the headers and encodes each value itself, so that no text of a client's is ever
parsed as a header; ``body.py`` encodes bodies. The result is checked byte for byte before it is
stored, against header injection (such as CVE-2024-6923).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import format_datetime
from functools import lru_cache

from mailbbgun.composing.body import body
from mailbbgun.composing.headers import LONGEST_LINE, TEXT, refusal, structured
from mailbbgun.core.errors import ConfigurationError, InvalidInput
from mailbbgun.smtp.folding import LINE, encoded_words, folded_lines, octets_beside

#: To of a message whose recipients are all hidden: an empty group (RFC 5322 §3.4).
NOBODY_SHOWN = "undisclosed-recipients:;"
#: Characters of a word of free text, at most, before it is encoded: leaves room for the header's name.
LONGEST_WORD = 900
#: Characters of a custom header's name, at most: leaves room for an encoded word beside it.
LONGEST_NAME = 50

# Characters that cannot stand on one line: control characters, separators that some readers take for a
# line break, and surrogates.
_BROKEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322 §3.2.3
_FOLD = re.compile(rb"\r\n[ \t]")
_MIME = (b"mime-version", b"content-type", b"content-transfer-encoding")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name, which may be empty, and an address, whose domain is in A-labels.

    The address is the same in header and envelope.
    """

    name: str
    address: str

    def __str__(self) -> str:
        """Return the mailbox as people read it: not encoded."""
        return f"{self.name} <{self.address}>" if self.name else self.address


def compose(
    *,
    sender: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    message_id_header: str,
    date: datetime,
    text: str | None = None,
    html: str | None = None,
    cc: Sequence[Mailbox] = (),
    reply_to: Sequence[Mailbox] = (),
    headers: Mapping[str, str] | None = None,
    boundary: str | None = None,
) -> bytes:
    """Return the message as it is sent.

    ``message_id_header`` is in angle brackets; at least one of ``text`` and ``html`` is given. The
    ``boundary`` between them is by default a random one. Header
    lines are ASCII but for addresses that need SMTPUTF8; bodies are always 7-bit. With neither ``to``
    nor ``cc``, To is an empty group. Raises :class:`InvalidInput` with the field whose value cannot be
    sent in its header, or would break out of it.
    """
    head, names = header(
        sender=sender,
        to=to,
        subject=subject,
        message_id_header=message_id_header,
        date=date,
        cc=cc,
        reply_to=reply_to,
        headers=headers,
    )
    raw = head + body(text, html, boundary)
    check(raw, names)
    return raw


def header(
    *,
    sender: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    message_id_header: str,
    date: datetime,
    cc: Sequence[Mailbox] = (),
    reply_to: Sequence[Mailbox] = (),
    headers: Mapping[str, str] | None = None,
) -> tuple[bytes, list[str]]:
    """Return the header of a message without its MIME fields, and the names of its fields.

    The parameters and the errors are those of :func:`compose`.
    """
    fields = [
        ("From", "from", _mailboxes("From", [sender])),
        ("To", "to", _mailboxes("To", to) if to or cc else [NOBODY_SHOWN]),
        ("Cc", "cc", _mailboxes("Cc", cc)),
        ("Reply-To", "reply_to", _mailboxes("Reply-To", reply_to)),
        ("Subject", "subject", _text("Subject", subject)),
        ("Date", "date", [date_of(date)]),
        ("Message-ID", "message_id_header", [message_id_header]),
        *((name, "headers", _words(name, value)) for name, value in (headers or {}).items()),
    ]
    given = [(name, field, words) for name, field, words in fields if words]
    return "".join(_folded(name, field, words) for name, field, words in given).encode(), [name for name, _, _ in given]


def note(*, name: str, sender: str, to: str, subject: str, text: str, message_id_header: str, date: datetime) -> bytes:
    """Return a plain text message of the service's own. ``name`` is the sender's, and may be empty.

    Raises :class:`InvalidInput`.
    """
    return compose(
        sender=Mailbox(name, sender),
        to=[Mailbox("", to)],
        subject=subject,
        text=text,
        message_id_header=message_id_header,
        date=date,
    )


def one_line(text: str) -> bool:
    """Say whether a text can stand in a header: one line, no control characters."""
    return not _BROKEN.search(text)


def as_one_line(text: str) -> str:
    """Return a text that can stand in a header, with a blank for each character that cannot."""
    return _BROKEN.sub(" ", text)


def check(raw: bytes, names: Sequence[str]) -> None:
    """Raise :class:`InvalidInput` unless the bytes are clean and the header has exactly these fields.

    Besides those in ``names`` it may have the MIME fields, each once. This guards against faults of
    the encoders and the library: no line of a client's text becomes a header.
    """
    line_ends = raw.count(b"\r\n")
    clean = raw.count(b"\r") == line_ends == raw.count(b"\n") and b"\0" not in raw and raw.endswith(b"\r\n")
    head = raw[: raw.find(b"\r\n\r\n")].lower()
    if b"\r\n " in head or b"\r\n\t" in head:
        head = _FOLD.sub(b" ", head)
    found = [line.partition(b":")[0] for line in head.split(b"\r\n")]
    mime = [name for name in found if name in _MIME]
    exact = sorted(found) == sorted([name.lower().encode() for name in names] + mime) and len(set(mime)) == len(mime)
    if not clean or not exact or has_long_line(raw):
        raise InvalidInput(
            "The message cannot be put on the wire safely.",
            fields={"headers": ["A value would break out of its header."]},
        )


def has_long_line(raw: bytes) -> bool:
    """Say whether a line has more octets than a mail server must take (RFC 5321 §4.5.3.1.6)."""
    start = 0
    while len(raw) - start > LONGEST_LINE:
        # Find the last line end within reach: lines before it cannot be too long, so most are never looked at.
        end = raw.rfind(b"\r\n", start, start + LONGEST_LINE + 2)
        if end < 0:
            return True
        start = end + 2
    return False


def _folded(name: str, field: str, words: Sequence[str]) -> str:
    """Join words by spaces into header lines (RFC 5322 §2.2.3), the first beside the name."""
    whole = f"{name}: {' '.join(words)}"
    if "\r" in whole or "\n" in whole or "\0" in whole:
        raise InvalidInput(f"{field} would break out of its header.", fields={field: ["Must be one line."]})
    if len(whole) > LINE:
        whole = "\r\n".join(folded_lines(f"{name}: {words[0]}", words[1:]))
    return whole + "\r\n"


def _words(name: str, value: str) -> list[str]:
    """Return the words of a header field that the client named, encoded where needed unless it is structured."""
    if why := refusal(name, value):
        raise InvalidInput(f"{name} cannot be sent.", fields={f"headers.{name}": [why]})
    if structured(name):
        return value.split() or [""]
    return _phrases(name, value) if name.lower() == "keywords" else _text(name, value)


def _text(name: str, text: str) -> list[str]:
    """Return the words of free text, encoded if some reader might change or misread them."""
    if not text:
        return [""]
    # Encode what looks like an encoded word, or readers would decode it, and runs of spaces, which a reader
    # may merge.
    if _PLAIN.fullmatch(text) and "=?" not in text and "  " not in text:
        words = text.split(" ")
        if name.lower() not in TEXT or max(map(len, words)) <= LONGEST_WORD:
            return words
    return _encoded(name, text)


def _phrases(name: str, text: str) -> list[str]:
    """Return the words of phrases between commas. Each phrase is encoded by itself, so that the commas
    still separate: within an encoded word they would not.
    """
    phrases = [_text(name, phrase.strip()) for phrase in text.split(",") if phrase.strip()]
    for phrase in phrases[:-1]:
        phrase[-1] += ","
    return [word for phrase in phrases for word in phrase] or [""]


def _encoded(name: str, text: str) -> list[str]:
    return list(encoded_words(text, octets_beside(name)))


def _mailboxes(name: str, boxes: Sequence[Mailbox]) -> list[str]:
    words: list[str] = []
    for box in boxes:
        if words:
            words[-1] += ","
        words += [*_phrase(name, box.name), f"<{box.address}>"] if box.name else [box.address]
    return words


def _phrase(header: str, name: str) -> list[str]:
    """Return the words of a display name: atoms, else a quoted string, else encoded words (RFC 5322 §3.2.5)."""
    if "=?" in name or not _PLAIN.fullmatch(name):
        return _encoded(header, name)
    if _ATOMS.fullmatch(name):
        return name.split(" ")
    return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']


EVIL = (
    "=?UTF-8?Q?a=0ABcc:_evil?=",
    "a\r\nBcc: evil@x",
    "a\nBcc: e@x",
    "a\rBcc: e@x",
    "a\x0bBcc: e@x",
    "a\x85Bcc: x",
    "a\u2028Bcc: x",
    "a\0b",
)


def date_of(moment: datetime) -> str:
    """Return the value of a Date header (RFC 5322 §3.3), in UTC."""
    return _date(int(moment.timestamp()))


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def self_test() -> None:
    """Check on this very Python that evil text is refused or harmless. Raises :class:`ConfigurationError`."""
    for text in EVIL:
        box = Mailbox(text, "a@example.com")
        try:
            raw = compose(
                sender=box, to=[box], cc=[box], reply_to=[box], subject=text, headers={"X-Evil": text},
                text=text.replace("\0", ""), html="ä",
                message_id_header="<a@example.com>", date=datetime(2026, 1, 1, tzinfo=UTC),
            )  # fmt: skip
        except InvalidInput:
            continue
        found = message_from_bytes(raw, policy=policy.default)
        if found["Bcc"] is not None or found["Subject"] != text or sorted(found.keys()) != sorted(set(found.keys())):
            raise ConfigurationError(
                f"this Python's email package would let a header break out ({text!r}); take a newer Python"
            )


def in_brackets(value: str) -> str:
    """Return a valid Message-ID in angle brackets."""
    return value if value.startswith("<") and value.endswith(">") else f"<{value.removeprefix('<').removesuffix('>')}>"
