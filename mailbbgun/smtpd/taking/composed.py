"""Makes fields to compose of a mail that asks for a template, or for tracking.

Such a mail cannot stay as it is. Its addresses and its other header fields are kept. Its text is kept
for tracking, and replaced by a template's.
"""

from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from typing import Any

from mailbbgun.accept.address_lists import written
from mailbbgun.accept.fields import Fields
from mailbbgun.composing.headers import reserved
from mailbbgun.composing.mime import Mailbox, as_one_line
from mailbbgun.core.errors import InvalidInput
from mailbbgun.smtpd.parts import MailTransaction

#: Octets of a header that is read this way, at most: it takes more than linear time.
HEADER_SIZE = 65_536

_OWN = frozenset({"from", "to", "cc", "bcc", "reply-to", "subject", "message-id", "date", "sender"})


def composed(transaction: MailTransaction, content: bytes, orders: Mapping[str, Any]) -> Fields:
    """Return the fields of a mail, with those that its ``X-MBG-`` fields ask for.

    Raises :class:`InvalidInput` for a mail with more than texts, since nothing of it may be lost silently.
    """
    name = "template" if "template" in orders else "track"
    if content.find(b"\r\n\r\n") > HEADER_SIZE:
        raise _wrong(name, f"The header of such a mail has at most {HEADER_SIZE} octets.")
    mail = message_from_bytes(content)
    texts = dict(_texts(mail, name))
    given: dict[str, Any] = dict(orders)
    if name == "track":
        if "html" not in texts:
            raise _wrong(name, "Needs HTML: a mail of plain text cannot be tracked.")
        given |= {**texts, "subject": _readable(mail, "subject")}
    if not transaction.mail_from:
        raise _wrong(name, "Needs a sender: MAIL FROM:<> is for reports.")
    senders = [*_mailboxes(mail, "from")]
    if len(senders) != 1:
        raise InvalidInput("The message is not valid.", fields={"from": ["The message needs one address in From."]})
    message_id = _readable(mail, "message-id")
    return Fields(
        sender=written(senders[0]),
        envelope_from=transaction.mail_from,
        reply_to=[written(box) for box in _mailboxes(mail, "reply-to")],
        message_id_header=message_id or None,
        headers={
            field: _readable(mail, field)
            for field in mail
            if field.lower() not in _OWN and not reserved(field) and not field.lower().startswith("content-")
        },
        **_recipients(transaction, mail),
        **given,
    )


def _recipients(transaction: MailTransaction, mail: Message) -> dict[str, Any]:
    """Return the envelope's recipients by the header field that names them; the others are bcc.

    If no field names any, all are in ``to``.
    """
    left = {one.lower(): one for one in transaction.recipients}
    found: dict[str, list[str]] = {"to": [], "cc": []}
    for field, its in found.items():
        for box in _mailboxes(mail, field):
            if (address := left.pop(box.address.lower(), None)) is not None:
                its.append(written(Mailbox(box.name, address)))
    return {**found, "bcc": [*left.values()]} if found["to"] or found["cc"] else {"to": [*left.values()]}


def _texts(mail: Message, name: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a mail: ``text`` or ``html``, and the text. Raises :class:`InvalidInput` if it has more."""
    kinds = {"text/plain": "text", "text/html": "html"}
    seen = set()
    for part in mail.walk():
        if part.get_content_type() == "multipart/alternative":
            continue
        kind = kinds.get(part.get_content_type())
        if kind is None or kind in seen or part.is_multipart() or part.get_filename():
            raise _wrong(name, "The mail has more than a plain text and an HTML one: send such a mail without it.")
        seen.add(kind)
        payload = part.get_payload(decode=True)
        try:
            text = bytes(payload if isinstance(payload, bytes) else b"").decode(part.get_content_charset("utf-8"))
        except (LookupError, ValueError) as error:
            raise _wrong(name, "The text of the mail is not in the charset that it names.") from error
        yield kind, text.replace("\r\n", "\n")


def _mailboxes(mail: Message, field: str) -> Iterator[Mailbox]:
    try:
        found = getaddresses([str(one) for one in mail.get_all(field, [])])
    except RecursionError as error:  # it calls itself for each comment in a comment, and each group in a group
        raise InvalidInput("The message is not valid.", fields={field: ["Cannot be read."]}) from error
    for name, address in found:
        if address:
            yield Mailbox(_decoded(name), address)


def _readable(mail: Message, field: str) -> str:
    return as_one_line(_decoded(str(mail.get(field, ""))))


def _decoded(text: str) -> str:
    """Return a header's text with its encoded words decoded (RFC 2047); unchanged if they are broken."""
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _wrong(name: str, why: str) -> InvalidInput:
    return InvalidInput("An X-MBG- field is not valid.", fields={name: [why]})
