"""What goes into accept, raw from a door, and the frozen, checked draft that it becomes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailbbgun.messages.mime import Mailbox

TO, CC, BCC = "to", "cc", "bcc"
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A message as a client gave it: the types are right, nothing else is known. Addresses are as people write them."""

    to: Sequence[str] = ()
    subject: str
    text: str | None = None
    html: str | None = None
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    sender: str | None = None
    envelope_from: str | None = None
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    message_id: str | None = (
        None  # the header message_id_header; the name is part of old fingerprints (database/idempotency.py)
    )
    priority: int = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message that breaks no rule. ``recipients`` are the envelope's: address → to, cc or bcc, each address once."""

    sender: Mailbox
    envelope_from: str  # the address that bounces go to: MAIL FROM (RFC 5321 §4.1.1.2)
    to: Sequence[Mailbox]
    cc: Sequence[Mailbox]
    reply_to: Sequence[Mailbox]
    recipients: Mapping[str, str]
    subject: str
    text: str | None
    html: str | None
    headers: Mapping[str, str]
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    message_id: str | None  # in angle brackets
    priority: int

    @property
    def smtputf8(self) -> bool:
        """Whether an address needs RFC 6531 all the way to the recipient."""
        shown = (self.sender, *self.to, *self.cc, *self.reply_to)
        return not all(
            address.isascii() for address in (*self.recipients, self.envelope_from, *(box.address for box in shown))
        )


def without_blanks(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a request's fields but those of ``names`` that say nothing: they are as if not given. Many clients write so what they lack.

    Nothing is said by null, by text without anything but white space, by an empty object, and by a list of such texts; such texts in a list, and
    such or null in an object of headers, are left out of it.
    """
    said = {}
    for name, value in given.items():
        if name in names:
            if isinstance(value, list):
                value = [entry for entry in value if not _blank(entry)]
            elif name == "headers" and isinstance(value, dict):
                value = {key: entry for key, entry in value.items() if entry is not None and not _blank(entry)}
            if value is None or _blank(value) or value == [] or value == {}:
                continue
        said[name] = value
    return said


def _blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())
