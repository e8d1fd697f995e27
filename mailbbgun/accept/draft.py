"""A message that breaks no rule, whichever kind of submission it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mailbbgun.messages.mime import Mailbox


class Composing(Protocol):
    """Makes the bytes that every try sends, with these headers where the message has none. Raises :class:`InvalidInput`."""

    def __call__(self, *, message_id_header: str, date: datetime) -> bytes:
        """``message_id_header`` is in angle brackets, ``date`` in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is stored of a message, and how its bytes are made."""

    sender: Mailbox  # From
    mail_from: str  # where bounces go (RFC 5321 §4.1.1.2)
    recipients: Mapping[str, str]  # the envelope's, each mailbox once: address → to, cc or bcc
    subject: str
    message_id_header: str | None  # as the message has it; None: one is to be made
    smtputf8: bool  # whether an address or the header needs RFC 6531
    compose: Composing
