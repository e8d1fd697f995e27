"""Takes mail from anybody, for local domains alone: this is no open relay."""

from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.parts import DoorPeer, MailTransaction
from mailbbgun.smtpd.taking.storing import Storing

DENIED = "550 5.7.1 Relaying denied: the domain of this recipient is not at home here"


class Incoming:
    """Makes received messages of mail, and stores them."""

    def __init__(self, settings: Settings, storing: Storing) -> None:
        self._settings, self._storing = settings, storing

    def recipient_refusal(self, _transaction: MailTransaction, _address: str) -> str | None:
        """Return the reply to a recipient that is not at home here."""
        return DENIED

    async def take(self, _transaction: MailTransaction, _content: bytes, _peer: DoorPeer) -> str:
        """Store a message, and return the reply to its final dot."""
        return DENIED
