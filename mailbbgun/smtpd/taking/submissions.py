"""Takes the mail that applications submit (RFC 6409)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from mailbbgun.accept.checks import permissions
from mailbbgun.accept.fields import PLAIN, Options, Raw, Submission
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.database import idempotency
from mailbbgun.database.idempotency import KeyClaim
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.parts import DoorPeer, MailTransaction
from mailbbgun.smtpd.replies import one_line, refusal
from mailbbgun.smtpd.taking.composed import composed
from mailbbgun.smtpd.taking.orders import NAMES, taken_out
from mailbbgun.smtpd.taking.storing import Storing
from mailbbgun.smtpd.taking.trace import received

_MESSAGE_ID = re.compile(rb"(?:^|\r\n)message-id[ \t]*:[ \t]*(?:\r\n[ \t]+)?[^ \t\r\n]", re.IGNORECASE)


class Submissions:
    """Makes submissions of mail, and stores them."""

    def __init__(self, settings: Settings, storing: Storing) -> None:
        self._settings, self._storing = settings, storing

    def recipient_refusal(self, transaction: MailTransaction, address: str, peer: DoorPeer) -> str | None:
        """Return the reply to a recipient that the key may not send to."""
        del peer
        if transaction.caller is not None:
            for _, why in permissions([], [], {address: ""}, transaction.caller, given=True):
                return one_line(f"550 5.7.1 {why}")
        return None

    async def take(self, transaction: MailTransaction, content: bytes, peer: DoorPeer) -> str:
        """Store a message, and return the reply to its final dot.

        A client that gets no reply, or 451, sends the message again, although it may be stored. With a
        Message-ID, which no other mail has (RFC 5322 §3.6.4), the second one is known by it, the content and
        the envelope, and is answered as the first. Mail without one may be meant to be equal.
        """
        caller = transaction.caller
        assert caller is not None  # MAIL needs a login
        try:
            kept, orders = taken_out(content)
            options = orders.options if orders else PLAIN
            claim, options = _claim(transaction, content, caller, options)
            submission: Submission
            if orders is None or not orders.fields:
                submission = self._raw(transaction, kept, peer)
            else:
                fields = orders.fields
                submission = await self._storing.in_thread(lambda: composed(transaction, kept, fields))
            accepted = await self._storing.store(submission, caller, options, claim)
        except MailBBGunError as error:
            return refusal(error, NAMES)
        return f"250 2.0.0 Stored as {accepted.id}"

    def _raw(self, transaction: MailTransaction, content: bytes, peer: DoorPeer) -> Raw:
        return Raw(
            mime=content,
            recipients=transaction.recipients,
            mail_from=transaction.mail_from,
            trace=received(
                peer, self._settings.HOSTNAME, datetime.now(UTC), logged_in=True, smtputf8=transaction.smtputf8
            ),
        )


def _claim(
    transaction: MailTransaction, content: bytes, caller: Caller, options: Options
) -> tuple[KeyClaim | None, Options]:
    """Return what guards a submission against being stored twice, and the options without their key."""
    asked: Mapping[str, object] = {
        "smtp": hashlib.sha256(content).hexdigest(),
        "mail_from": transaction.mail_from,
        "recipients": transaction.recipients,
    }
    if options.idempotency_key is not None:
        claim = idempotency.claim_of(caller, options.idempotency_key, asked)
        return claim, replace(options, idempotency_key=None)
    head = content[: content.find(b"\r\n\r\n") + 2]
    if not _MESSAGE_ID.search(head):
        return None, options
    digest = idempotency.claim_of(caller, "smtp", {**asked, "key": str(caller.key_id)}).fingerprint
    return idempotency.claim_of(caller, f"smtp {digest}", {}), options
