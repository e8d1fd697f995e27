"""The checks of raw submissions. A client's MIME is checked, and kept as it is but for three changes.

Bcc is taken out, a missing Date or Message-ID is put before the rest (RFC 6409 §8.2 and §8.3), and
LF line ends become CRLF. So a DKIM signature of the client's stays valid. A header that two readers
may read differently is refused.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import partial
from typing import NamedTuple

from mailbbgun.accept.address_lists import BLANK, NAME_SIZE, mailbox, mailboxes, shown, split
from mailbbgun.accept.checks import Wrong, check_options, envelope, key_of, permissions
from mailbbgun.accept.draft import Draft
from mailbbgun.accept.fields import BCC, CC, MESSAGE_ID_SIZE, TO, Options, Raw
from mailbbgun.composing.headers import LONGEST_LINE
from mailbbgun.composing.mime import Mailbox, as_one_line, date_of, has_long_line
from mailbbgun.composing.provider_headers import orders
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.settings.settings import Settings

#: Octets of a header, at most: room for a thousand recipients and the signatures of ten servers.
HEADER_SIZE = 262_144
#: Characters of a header field that are decoded for people to read: decoding takes more than linear time.
DECODED_SIZE = 4_000

# Fields that may stand only once (RFC 5322 §3.6): of two, each reader may take another.
_ONCE = (b"from", b"sender", b"reply-to", b"date", b"message-id", b"subject")
_HIDDEN = (b"bcc", b"resent-bcc")
#: Fields besides From that say who sends.
_SENDERS = (b"sender", b"resent-from", b"resent-sender")

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_SPECIAL = re.compile('["<>]')
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FOLD = re.compile(r"\r\n(?=[ \t])")
_UNFOLDED = re.compile(rb"\r\n(?![ \t])")  # where a field ends


class _Field(NamedTuple):
    """One header field: its name in lower case, and all of it with its line ends."""

    name: bytes
    whole: bytes

    @property
    def value(self) -> str:
        return _FOLD.sub("", self.whole.partition(b":")[2].decode("utf-8", "replace")).strip()


def check_raw(submission: Raw, options: Options, settings: Settings, caller: Caller) -> Draft:
    """Return the draft of a caller's raw submission.

    Raises :class:`TooLarge`, and :class:`InvalidInput` with all faults, under the names ``mime``,
    ``from`` (the header), ``mail_from`` and ``recipients``.
    """
    if len(submission.mime) > settings.MAX_BODY_SIZE:
        raise TooLarge(f"The message has {len(submission.mime)} bytes, and {settings.MAX_BODY_SIZE} are the most.")
    wrong: Wrong = {}
    whole = _with_crlf(submission.mime)
    header, rest = _header(whole, wrong)
    values: dict[bytes, str] = {one.name: one.value for one in header}
    sender = _sender(header, settings, caller, wrong)
    mail_from = _mail_from(submission, sender, settings, caller, wrong)
    recipients = _recipients(submission, header, settings, wrong)
    for name, why in permissions([sender] if sender else [], [], recipients, caller, given=True):
        wrong.setdefault("from" if name == "from" else "recipients", []).append(why)
    for _, why in orders(((one.name.decode(), one.value) for one in header), caller):
        wrong.setdefault("mime", []).append(why)
    check_options(options, settings, wrong)
    if wrong or sender is None:
        raise InvalidInput("The message is not valid.", fields=wrong)
    kept = b"".join(one.whole for one in header if one.name not in _HIDDEN)
    subject = as_one_line(_readable(values.get(b"subject", "")))
    return Draft(
        sender=sender,
        mail_from=mail_from,
        recipients=recipients,
        subject=subject
        if len(subject) <= settings.MAX_SUBJECT_SIZE
        else subject[: settings.MAX_SUBJECT_SIZE - 1] + "…",
        message_id_header=as_one_line(values[b"message-id"]) if b"message-id" in values else None,
        smtputf8=not (
            kept.isascii() and sender.address.isascii() and mail_from.isascii() and all(map(str.isascii, recipients))
        ),
        compose=partial(_completed, kept + rest, frozenset(values)),
        trace=submission.trace,
    )


def _completed(
    given: bytes,
    has: frozenset[bytes],
    *,
    message_id_header: str,
    date: datetime,
    boundary: str | None = None,
) -> bytes:
    """Return a message with Date and Message-ID added, unless it has them."""
    added = "" if b"date" in has else f"Date: {date_of(date)}\r\n"
    added += "" if b"message-id" in has else f"Message-ID: {message_id_header}\r\n"
    return added.encode() + given


def _with_crlf(mime: bytes) -> bytes:
    if b"\r" not in mime:
        mime = mime.replace(b"\n", b"\r\n")
    return mime if mime.endswith(b"\r\n") else mime + b"\r\n"


def _header(whole: bytes, wrong: Wrong) -> tuple[list[_Field], bytes]:
    """Return the header's fields, and the rest of the message from the empty line on.

    Add to ``wrong`` the faults of its form.
    """
    faults = wrong.setdefault("mime", [])
    if not whole.count(b"\r\n") == whole.count(b"\r") == whole.count(b"\n"):
        faults.append("Has a CR or an LF alone: lines end in CRLF, or all of them in LF (RFC 5322 §2.3).")
    if b"\0" in whole:
        faults.append("Has a NUL octet, which no mail server takes (RFC 5322 §4).")
    if has_long_line(whole):
        faults.append(
            f"Has a line of more than {LONGEST_LINE} octets (RFC 5322 §2.1.1): "
            "encode its part as quoted-printable or base64."
        )
    end = 0 if whole.startswith(b"\r\n") else whole.find(b"\r\n\r\n") + 2
    head, rest = (whole[:end], whole[end:]) if end != 1 else (whole, b"\r\n")  # 1: there is no empty line
    found: list[_Field] = []
    if len(head) > HEADER_SIZE:
        faults.append(f"Its header has {len(head)} octets, and {HEADER_SIZE} are the most.")
    elif not faults:
        found = _fields(head, faults)
    if not faults:
        del wrong["mime"]
    return found, rest


def _fields(head: bytes, faults: list[str]) -> list[_Field]:
    found = []
    for whole in _UNFOLDED.split(head)[:-1]:
        if match := _NAME.match(whole):
            found.append(_Field(match[1].lower(), whole + b"\r\n"))
        else:
            line = whole[:60].decode("utf-8", "replace").partition("\r\n")[0]
            faults.append(f"Its header has a line that is no field: {line!r} (RFC 5322 §2.2).")
            break
    try:
        head.decode()
    except UnicodeDecodeError:
        faults.append("Its header is neither ASCII nor UTF-8 (RFC 6532 §3.2): encode what is not (RFC 2047).")
    names = [one.name for one in found]
    for name in _ONCE:
        if (n := names.count(name)) > 1:
            faults.append(f"Has {n} {name.decode().title()} headers, and one is the most (RFC 5322 §3.6).")
    for one in found:
        if one.name == b"message-id" and not 0 < len(one.value) <= MESSAGE_ID_SIZE:
            faults.append(
                f"Its Message-ID has {len(one.value)} characters: 1 to {MESSAGE_ID_SIZE} are taken, or leave it out."
            )
    return found


def _sender(header: Sequence[_Field], settings: Settings, caller: Caller, wrong: Wrong) -> Mailbox | None:
    """Return the mailbox in From. Add to ``wrong`` its faults, and senders in other fields that the key
    may not send as.
    """
    if "mime" in wrong:
        return None
    faults: list[str] = []
    for one in header if caller.senders else ():
        if one.name in _SENDERS:
            faults += _not_permitted(one, settings, caller)
    authors = [text for one in header if one.name == b"from" for text in split(_without_comments(one.value))]
    sender = None
    if len(authors) != 1:
        faults.append(f"The message has {len(authors)} addresses in its From header, and takes one (RFC 5322 §3.6.2).")
    else:
        try:
            sender = _author(authors[0], settings)
        except ValueError as error:
            faults.append(f"{shown(authors[0])}: {error}")
    if faults:
        wrong["from"] = faults
    return sender


def _not_permitted(field: _Field, settings: Settings, caller: Caller) -> Iterator[str]:
    """Yield a sentence for each address in a field that the key may not send as."""
    name = field.name.decode().title()
    for text in split(_without_comments(field.value)):
        try:
            address = _author(text, settings).address
        except ValueError as error:
            yield f"{name}: {shown(text)}: {error}"
            continue
        if not caller.may_send_as(address):
            yield f"This API key may not send as {address}, whom {name} names."


def _author(text: str, settings: Settings) -> Mailbox:
    """Return a mailbox, with its display name decoded. Raises ``ValueError`` with a sentence."""
    name, address = "", text
    if text.endswith(">") and "<" in text:
        name, _, address = text[:-1].rpartition("<")
        name = name.strip(BLANK)
    if _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    elif found := _SPECIAL.search(name):
        raise ValueError(f"The display name has {found[0]} outside of quotes, so two readers may see two addresses.")
    return Mailbox(
        as_one_line(_readable(name))[:NAME_SIZE].strip(), mailbox(address, settings.MAX_EMAIL_ADDRESS_SIZE).address
    )


def _mail_from(submission: Raw, sender: Mailbox | None, settings: Settings, caller: Caller, wrong: Wrong) -> str:
    if submission.mail_from is None:
        return sender.address if sender else ""
    if not submission.mail_from:
        if caller.senders:
            wrong["mail_from"] = ["This API key may not send as everybody, so not as nobody (<>) either."]
        return ""
    try:
        box = mailbox(submission.mail_from, settings.MAX_EMAIL_ADDRESS_SIZE)
        if box.name:
            raise ValueError(f"Is an address alone, without a name: {box.address}.")
    except ValueError as error:
        wrong["mail_from"] = [f"{shown(submission.mail_from)}: {error}"]
        return ""
    for _, why in permissions([], [box], {}, caller, given=True):
        wrong.setdefault("mail_from", []).append(why)
    return box.address


def _recipients(submission: Raw, header: Sequence[_Field], settings: Settings, wrong: Wrong) -> dict[str, str]:
    """Return the envelope's recipients, each mailbox once, with the header field that names it.

    ``to`` and ``cc`` stand for To and Cc; ``bcc`` for neither.
    """
    most, longest = settings.MAX_RECIPIENTS, settings.MAX_EMAIL_ADDRESS_SIZE
    if len(submission.recipients) > most:
        wrong["recipients"] = [f"More than {most} recipients."]
        return {}
    found, broken = mailboxes(submission.recipients, longest, most)
    addresses = envelope({BCC: found}, settings)
    if broken or len(addresses) > most or not addresses:
        wrong["recipients"] = broken or [
            f"More than {most} recipients." if addresses else "Recipients are needed: the header's are not taken."
        ]
    named: dict[str, str] = {}
    for kind in (TO, CC):
        for text in (one.value for one in header if one.name == kind.encode()):
            boxes, _ = mailboxes([_without_comments(text)], longest, most)
            named |= {key_of(box.address, settings): kind for box in reversed(boxes)} | named
    return {address: named.get(key_of(address, settings), BCC) for address in addresses}


def _readable(text: str) -> str:
    """Return a header's text with its encoded words decoded (RFC 2047); unchanged if they are broken."""
    text = text[:DECODED_SIZE]
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _without_comments(text: str) -> str:
    """Return a header's text without its comments: parentheses outside of quotes (RFC 5322 §3.2.2)."""
    if "(" not in text:
        return text
    kept, depth, quoted, escaped = [], 0, False, False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"' and not depth:
            quoted = not quoted
        elif character == "(" and not quoted:
            depth += 1
        elif character == ")" and depth:
            depth -= 1
            continue
        if not depth:
            kept.append(character)
    return "".join(kept).strip()
