"""What the checks return: a message that breaks no rule, from either kind of submission."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mailbbgun.composing.contents import Content, Personal
from mailbbgun.composing.mime import Mailbox

NOTHING_PERSONAL = Personal()


class Composing(Protocol):
    """Makes the bytes that are stored and sent. Both headers are added only where the message lacks them.

    Raises :class:`InvalidInput`.
    """

    def __call__(self, *, message_id_header: str, date: datetime) -> bytes:
        """``message_id_header`` is in angle brackets, ``date`` in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is stored of a message, and how its bytes are made."""

    #: The From header.
    sender: Mailbox
    #: The envelope's sender: where bounces go (RFC 5321 §4.1.1.2).
    mail_from: str
    #: The envelope's recipients, each mailbox once: address → ``to``, ``cc`` or ``bcc``.
    recipients: Mapping[str, str]
    subject: str
    #: The Message-ID header in the message; None: accept makes one.
    message_id_header: str | None
    #: Whether an address or the header needs RFC 6531.
    smtputf8: bool
    #: Makes the bytes of a plain message; None: it is stored as its ``content`` and ``personal`` part.
    compose: Composing | None = None
    content: Content | None = None
    personal: Personal = NOTHING_PERSONAL
