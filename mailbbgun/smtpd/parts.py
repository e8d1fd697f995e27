"""What the connections of a door share, and what they know of their clients."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from mailbbgun.core.caller import Caller
from mailbbgun.domains.models import Policy
from mailbbgun.http.refusals import Refusals
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.certificate import DoorCertificate
from mailbbgun.smtpd.logins import Logins
from mailbbgun.smtpd.options import DoorOptions
from mailbbgun.smtpd.registry import DoorRegistry


@dataclass(slots=True)
class DoorPeer:
    """A client as its connection shows it."""

    address: str
    network: str
    #: Whether it is on this machine.
    loopback: bool
    #: Whether the connection is encrypted.
    secure: bool = False
    #: The name that the client gives itself.
    helo: str = ""
    #: Whether it said EHLO.
    extended: bool = False


class RecipientOwner(NamedTuple):
    """The tenant that takes a recipient's mail, and the policy for that.

    ``decided``: it is taken whatever is in it. Otherwise an inbound route decides by its header.
    """

    tenant_id: UUID
    policy: Policy
    decided: bool = True


@dataclass(slots=True)
class MailTransaction:
    """What MAIL and RCPT said (RFC 5321 §3.3)."""

    #: "" for the null sender.
    mail_from: str
    smtputf8: bool
    #: Who sends it; None at the MX port.
    caller: Caller | None = None
    #: Octets of the message, as far as MAIL said them.
    size: int = 0
    recipients: list[str] = field(default_factory=list)
    #: Whose the recipients are. Only at the MX port.
    owners: dict[str, RecipientOwner] = field(default_factory=dict)


class MailTaker(Protocol):
    """Takes messages, and replies to them."""

    def recipient_refusal(
        self, transaction: MailTransaction, address: str, peer: DoorPeer
    ) -> str | Coroutine[Any, Any, str | None] | None:
        """Return the reply to a recipient that is not taken, or what will return it."""

    async def take(self, transaction: MailTransaction, content: bytes, peer: DoorPeer) -> str:
        """Store a message, and return the reply to its final dot. ``content`` has CR LF at all line ends."""


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What all connections share."""

    settings: Settings
    options: DoorOptions
    certificate: DoorCertificate | None
    registry: DoorRegistry
    logins: Logins
    submissions: MailTaker
    #: Takes mail for local domains. None: there is no MX port.
    incoming: MailTaker | None
    database_found: Callable[[], bool]
    refusals: Refusals

    @property
    def most_octets(self) -> int:
        """The size of a message, at most: SIZE announces it (RFC 1870)."""
        most = min(self.settings.MAX_BODY_SIZE, self.settings.MAX_MESSAGE_SIZE)
        return max(most - ADDED, most // 2)


#: Octets that the door may add to a message: five signatures have results.
ADDED = 8192
