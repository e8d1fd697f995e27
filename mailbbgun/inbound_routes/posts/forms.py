"""The bodies of posts: a mail as JSON, and as the form that Mailgun posts. Pure.

The form is that of Mailgun's "Parsed Messages Parameters", so what was written for its routes works unchanged.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mailbbgun.inbound_routes.posts.own_text import own_html, own_text
from mailbbgun.mime_reading.mail import ReadMail
from mailbbgun.mime_reading.read import AttachmentContent
from mailbbgun.outgoing.multipart import MultipartFile, MultipartForm, encoded
from mailbbgun.templates.plain_text import from_html

#: Header fields that the form also has as fields of their own.
_OWN = ("From", "To", "Cc", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Reply-To")

#: What mail programs put before the subject of a mail that they forward, by their language.
_FORWARDED = re.compile(r"\s*(?:fwd?|wg|tr|rv|enc|i|vb|vl|vs|pd|doorst)\s*:", re.IGNORECASE)


class PostedMail(NamedTuple):
    """A mail to one recipient, with what its envelope says (RFC 5321 §2.3.1)."""

    recipient: str
    mail_from: str
    mail: ReadMail
    files: Sequence[AttachmentContent]


def as_json(posted: PostedMail, identifier: str, at: str) -> bytes:
    """Return a mail as JSON. ``identifier`` is that of the request; ``at``: the time, as in RFC 3339."""
    mail = posted.mail
    data: dict[str, Any] = {
        "id": identifier,
        "recipient": posted.recipient,
        "sender": posted.mail_from,
        "from": mail.sender,
        "to": mail.to,
        "cc": mail.cc,
        "subject": mail.subject,
        "date": mail.date.isoformat() if mail.date else None,
        "message_id": _first(mail, "message-id"),
        "headers": mail.headers,
        "text": mail.text,
        "html": mail.html,
        "problems": mail.problems,
        "attachments": [
            {
                "filename": one.attachment.filename,
                "content_type": one.attachment.content_type,
                "size": one.attachment.size,
                "content_id": one.attachment.content_id,
                "inline": one.attachment.inline,
                "content": base64.b64encode(one.data).decode(),
            }
            for one in posted.files
        ],
    }
    body = {"type": "mail.received", "timestamp": at, "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def as_mailgun(posted: PostedMail, secret: str, timestamp: int, token: str) -> MultipartForm:
    """Return a mail as Mailgun's form. ``token``: random text, which is signed with the ``timestamp``."""
    mail = posted.mail
    names = {f"attachment-{number}": one for number, one in enumerate(posted.files, 1)}
    ids = {f"<{one.attachment.content_id}>": name for name, one in names.items() if one.attachment.content_id}
    fields = [
        ("recipient", posted.recipient),
        ("sender", posted.mail_from),
        ("from", mail.sender),
        ("subject", mail.subject),
        *_texts(mail),
        *((name, value) for name in _OWN if (value := _first(mail, name.lower())) is not None),
        ("message-headers", json.dumps(mail.headers, ensure_ascii=False)),
        ("attachment-count", str(len(names))),
        *([("content-id-map", json.dumps(ids, ensure_ascii=False))] if ids else []),
        ("timestamp", str(timestamp)),
        ("token", token),
        ("signature", signed(secret, timestamp, token)),
    ]
    files = [
        MultipartFile(name, one.attachment.filename or name, one.attachment.content_type, one.data)
        for name, one in names.items()
    ]
    return encoded(fields, files)


def signed(secret: str, timestamp: int, token: str) -> str:
    """Return Mailgun's signature: the HMAC-SHA256 of timestamp and token, in hexadecimal digits."""
    return hmac.new(secret.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()


def _texts(mail: ReadMail) -> Iterator[tuple[str, str]]:
    forwarded = _is_forwarded(mail)
    text = from_html(mail.html) if mail.text is None and mail.html is not None else mail.text
    if text is not None:
        yield "body-plain", text
        own, signature = own_text(text, forwarded=forwarded)
        yield "stripped-text", own
        yield "stripped-signature", signature
    if mail.html is not None:
        yield "body-html", mail.html
        yield "stripped-html", own_html(mail.html, forwarded=forwarded)


def _is_forwarded(mail: ReadMail) -> bool:
    """Return whether a mail hands another one on: its subject says so, or it answers none."""
    answers = any(_first(mail, name) for name in ("in-reply-to", "references"))
    return not answers or _FORWARDED.match(mail.subject) is not None


def _first(mail: ReadMail, name: str) -> str | None:
    return next((value for key, value in mail.headers if key.lower() == name), None)
