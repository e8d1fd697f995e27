"""The envelope, and the checks that no address in it can become a command."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.outcome import Phase
from mailbbgun.smtp.spooled import Raw

#: Octets of an address (RFC 5321 §4.5.3.1.3, without the angle brackets).
MAX_PATH = 254

# Dots may stand anywhere, because real addresses such as docomo's "a..b." need it. Quoted local
# parts may hold printable characters but no space and no angle bracket. So no address can end the
# path, add a parameter or start a command.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~."
_QUOTED = r'"(?:[!#-;=?-\[\]-~]|\\[!-;=?-~])*"'
_LITERAL = r"\[(?:IPv6:)?[0-9A-Fa-f.:]+\]"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_ASCII_PATH = re.compile(rf"(?:[{_ATEXT}-]+|{_QUOTED})@(?:{_LABEL}(?:\.{_LABEL})*|{_LITERAL})", re.ASCII)
_UTF8_QUOTED = r'"(?:[!#-;=?-\[\]-~\u0080-\U0010ffff]|\\[!-;=?-~])*"'
_UTF8_PATH = re.compile(rf"(?:[{_ATEXT}\u0080-\U0010ffff-]+|{_UTF8_QUOTED})@[A-Za-z0-9_.\u0080-\U0010ffff-]+")


class MessageSigning(Protocol):
    """Makes the fields that sign a message, to put before its header."""

    def __call__(self, header: bytes, body: Iterable[bytes] | None = None) -> bytes:
        """`body` is what follows the header, from the empty line on; None: as it was given to us."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message for some recipients. `mail_from` "" is the null sender (RFC 5321 §4.5.5).

    `raw` is the whole message with CRLF line ends, not dot-stuffed: bytes, or a `Spooled` file.
    `smtputf8` permits addresses and a header outside ASCII (RFC 6531); a transaction asks for the
    extension only if it needs it. A recipient given twice gets the message once. `sign` is given the header
    as this server gets it, and the body if that was rewritten, and returns the fields to put before it
    (DKIM, RFC 6376): it signs last. For a relay that delivers here, `deliveries` has the id of each recipient's
    delivery, `repeated` says whether one of them may have been tried before, and `tenant_id` whose mail it is.
    `received_for` is the local recipient whose inbound route has this mail forwarded or posted.
    """

    mail_from: str
    recipients: tuple[str, ...]
    raw: Raw = field(repr=False)
    smtputf8: bool = False
    sign: MessageSigning | None = field(default=None, repr=False)
    deliveries: Mapping[str, UUID] = field(default_factory=dict, repr=False, compare=False)
    repeated: bool = True
    tenant_id: UUID | None = None
    received_for: str | None = None


def path(address: str, smtputf8: bool, phase: Phase) -> bytes:
    """Return `address` as it stands between the angle brackets (RFC 5321 §4.1.2, RFC 6531 §3.3).

    Raises EnvelopeError: 5.1.3 (5.1.7 for the sender) if the syntax is wrong, 5.6.7 if the address
    needs `smtputf8`.
    """
    if not address and phase is Phase.MAIL:
        return b""
    if address.isascii():
        sound = _ASCII_PATH.fullmatch(address)
    elif not smtputf8:
        raise EnvelopeError("5.6.7", "the server does not offer SMTPUTF8, which an address outside ASCII needs", phase)
    else:
        # isprintable() is False for control, format, private, unassigned and surrogate characters,
        # and for every space but U+0020.
        sound = _UTF8_PATH.fullmatch(address) if address.isprintable() else None
    if not sound or len(octets := address.encode()) > MAX_PATH:
        raise EnvelopeError("5.1.7" if phase is Phase.MAIL else "5.1.3", "the address is malformed", phase)
    return octets
