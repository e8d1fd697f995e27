"""The submissions of finished MIME."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A submission of finished MIME, with its envelope (RFC 5321 §2.3.1).

    ``mime`` has CRLF line ends, or LF throughout, and no stuffed dots (RFC 5321 §4.5.2). ``mail_from``
    is an address, "" for the null sender (RFC 5321 §4.5.5), or None for the address in From.
    ``recipients`` are addresses; none is taken from the header.
    """

    mime: bytes = field(repr=False)
    recipients: Sequence[str]
    mail_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Mail that another server sent to local recipients (RFC 5321 §2.3.10). It is kept byte for byte.

    ``mime`` has CRLF line ends; the door has put its trace fields before the header: ``Received`` and
    ``Authentication-Results``. ``Return-Path`` comes with the delivery. ``mail_from`` is the
    envelope's sender, "" the null sender. All ``recipients`` belong to the caller's tenant.
    """

    mime: bytes = field(repr=False)
    recipients: Sequence[str]
    mail_from: str
