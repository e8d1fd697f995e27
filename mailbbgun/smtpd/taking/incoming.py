"""Takes mail from anybody, for local domains alone: this is no open relay."""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from mailbbgun.accept.fields import PLAIN, Received
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.database import idempotency
from mailbbgun.database.idempotency import KeyClaim
from mailbbgun.domains.local import LocalDomains
from mailbbgun.http.refusals import Refusals
from mailbbgun.inbound_routes.recipients import NO_ROOM, InboundRecipients
from mailbbgun.mailboxes.resolve import NOT_LOCAL
from mailbbgun.mime_reading.read import fields_of
from mailbbgun.return_paths.receive import NO_SUCH, Reports
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtpd.parts import ADDED, DoorPeer, MailTransaction, RecipientOwner
from mailbbgun.smtpd.replies import LOOP, one_line, refusal
from mailbbgun.smtpd.taking.storing import Storing
from mailbbgun.smtpd.taking.trace import received
from mailbbgun.smtpd.taking.verifying import MailVerifier, quarantine_field

#: Received fields of a message that goes round in circles (RFC 5321 §6.3).
MOST_HOPS = 50
#: Octets of a header that are searched for them.
SEARCHED = 262_144

#: Reply to a recipient that must be the only one of a mail, since its header decides: the client sends it to that
#: one later (RFC 5321 §4.5.3.1.10). So no refusal is about others, and nobody is told of mail that it was taken.
ALONE = "452 4.5.3 This recipient takes mail in a transaction of its own"

_HOP = re.compile(rb"(?:^|\r\n)received[ \t]*:", re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"(?:^|\r\n)message-id[ \t]*:[ \t]*(?:\r\n[ \t]+)?[^ \t\r\n]", re.IGNORECASE)


class MailReceiver:
    """Makes received messages of mail, and stores them: one for each tenant and each policy of its domains."""

    def __init__(
        self,
        settings: Settings,
        domains: LocalDomains,
        inbound: InboundRecipients,
        reports: Reports,
        storing: Storing,
        verifier: MailVerifier,
        refusals: Refusals,
    ) -> None:
        self._settings, self._domains, self._inbound, self._reports = settings, domains, inbound, reports
        self._storing, self._verifier, self._refusals = storing, verifier, refusals

    async def recipient_refusal(self, transaction: MailTransaction, address: str, peer: DoorPeer) -> str | None:
        """Return the reply to a recipient whose mail nobody takes, or whose mailbox is full."""
        try:
            found = await self._storing.in_thread(partial(self._found, address, _said(transaction)))
        except MailBBGunError as error:
            return refusal(error)
        others = [owner for one, owner in transaction.owners.items() if one != address]
        if isinstance(found, RecipientOwner) and others and not all(one.decided for one in (found, *others)):
            return ALONE
        if not isinstance(found, Reply):
            transaction.owners[address] = found
            return None
        told = {"client": peer.address, "mail_from": transaction.mail_from, "to": address, "reply": _reply(found)}
        self._refusals.tell("recipient", peer.network, told, event="recipient_refused")
        return _reply(found)

    def _found(self, address: str, size: int) -> RecipientOwner | Reply:
        """Return who takes the mail of an address, or the reply that refuses it."""
        if (tenant_id := self._reports.tenant_of(address)) is not None:
            return RecipientOwner(tenant_id, "none")  # a report says what happened, whoever it is from
        found = self._inbound.taking([address], size)[address]
        if isinstance(found, Reply) and self._reports.takes(address.rpartition("@")[2].lower(), None):
            return NO_SUCH if found == NOT_LOCAL else found
        if isinstance(found, Reply):
            return found
        local = self._domains.of(address.rpartition("@")[2].lower())
        return RecipientOwner(found.tenant_id, local.policy if local else "none", found.decided)

    def _no_room(self, recipients: Sequence[str], size: int) -> Reply | None:
        """Return the reply of a mailbox that has no room for a message of this size, that of the smallest first.

        It is for the whole message, so that its sender gets to know: nobody writes to him later.
        """
        found = self._inbound.taking(recipients, size).values()
        return next((reply for reply in NO_ROOM if reply in found), None)

    def _unwanted(self, recipients: Sequence[str], content: bytes) -> Reply | None:
        """Return the reply to a mail whose header decides, if no route of its recipient wants it."""
        found = self._inbound.taking(recipients, len(content), fields_of(content)).values()
        return next((one for one in found if isinstance(one, Reply)), None)

    async def take(self, transaction: MailTransaction, content: bytes, peer: DoorPeer) -> str:
        """Store a message, and return the reply to its final dot.

        If it is stored for one tenant and not for another, the client sends it again, and the first one knows it.
        """
        header = content[: min(content.find(b"\r\n\r\n") + 2, SEARCHED)]
        hops = len(_HOP.findall(header))
        if hops > MOST_HOPS:
            return LOOP
        owners, hostname, now = transaction.owners, self._settings.HOSTNAME, datetime.now(UTC)
        judged = await self._verifier.judged(transaction, content, peer, {one[1] for one in owners.values()})
        if judged.reply is not None:
            told = {"client": peer.address, "mail_from": transaction.mail_from, "reply": judged.reply}
            self._refusals.tell("message", peer.network, told, event="message_refused")
            return judged.reply
        mime = received(peer, hostname, now, logged_in=False, smtputf8=transaction.smtputf8) + judged.content
        # Without a Message-ID, equal mail is known by the times that the servers on its way have put into it.
        known = hops > 0 or _MESSAGE_ID.search(header) is not None
        stored = []
        try:
            # At RCPT there was room for what the client said at MAIL.
            if len(mime) > _said(transaction):
                no_room = partial(self._no_room, transaction.recipients, len(mime))
                if (refused := await self._storing.in_thread(no_room)) is not None:
                    return _reply(refused)
            if not all(one.decided for one in owners.values()):
                unwanted = partial(self._unwanted, transaction.recipients, mime)
                if (refused := await self._storing.in_thread(unwanted)) is not None:
                    return _reply(refused)
            for owner in sorted(set(owners.values())):
                its = [one for one in transaction.recipients if owners[one] == owner]
                caller, reason = Caller(owner.tenant_id), judged.quarantined.get(owner.policy)
                claim = _claim(caller, transaction.mail_from, its, content) if known else None
                before = b"" if reason is None else quarantine_field(reason)
                submission = Received(mime=before + mime, recipients=its, mail_from=transaction.mail_from)
                stored.append((await self._storing.store(submission, caller, PLAIN, claim)).id)
        except MailBBGunError as error:
            return refusal(error)
        return f"250 2.0.0 Stored as {' '.join(stored)}"[:400]


def _said(transaction: MailTransaction) -> int:
    """Return how large a message will be at most if the client told the truth; 0 if it said nothing."""
    return transaction.size and transaction.size + ADDED


def _claim(caller: Caller, mail_from: str, recipients: Sequence[str], content: bytes) -> KeyClaim:
    """Return what guards a mail against being stored twice."""
    asked = {"mx": hashlib.sha256(content).hexdigest(), "mail_from": mail_from, "recipients": [*recipients]}
    digest = idempotency.claim_of(caller, "mx", asked).fingerprint
    return idempotency.claim_of(caller, f"mx {digest}", {})


def _reply(reply: Reply) -> str:
    return one_line(f"{reply.code} {reply.enhanced} {reply.text}")
