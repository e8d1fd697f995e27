"""One mail of a mailbox in the form that ``schemas.MailDetails`` takes."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from mailbbgun.mailbox_messages.schemas import MailListed
from mailbbgun.mailboxes.models import MailboxMessage
from mailbbgun.mime_reading.read import read


def details(one: MailboxMessage, raw: bytes, url: Callable[[int], str], *, remote: bool) -> dict[str, Any]:
    """Return a mail with what is read from its bytes. ``url``: where the attachment of an index is."""
    found = read(raw, attachment_url=url, remote=remote)
    return {name: getattr(one, name) for name in MailListed().fields} | {
        "to": found.to,
        "cc": found.cc,
        "date": found.date,
        "headers": [{"name": name, "value": value} for name, value in found.headers],
        "text": found.text,
        "html": found.html_safe,
        "attachments": [asdict(file) | {"url": url(file.index)} for file in found.attachments],
        "problems": found.problems,
    }
