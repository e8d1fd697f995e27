"""Verifies mail that comes to the MX port, and decides what happens to it."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from mailbbgun.domains.models import Policy
from mailbbgun.mailboxes.models import QUARANTINE_FIELD
from mailbbgun.routing.ways_out import resolver
from mailbbgun.safety.scanner import Scanner
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.parts import DoorPeer, MailTransaction
from mailbbgun.smtpd.replies import one_line
from mailbbgun.verification.fields import NAME, marked
from mailbbgun.verification.policy import ReceivedMailPolicy, Treatment, together
from mailbbgun.verification.rspamd import MailOrigin
from mailbbgun.verification.scan import ContentScan
from mailbbgun.verification.verify import verify

#: Messages that are verified at once, each in a thread that waits for the DNS and for scanners.
THREADS = 8
#: Seconds that a message waits for one of them, at most.
TURN_SECONDS = 60.0

BUSY = "451 4.3.2 Too much mail waits to be verified: try again later"


class Judged(NamedTuple):
    """What happens to a message: with ``reply`` it is refused.

    ``content`` is the message with what was found before its header. ``quarantined`` says for each policy
    of a recipient's domain that puts it into quarantine, why.
    """

    reply: str | None
    content: bytes
    quarantined: Mapping[Policy, str]


class MailVerifier:
    """Verifies mail in threads of its own: those that store mail need not wait for the DNS. For one event loop."""

    def __init__(self, settings: Settings, scanner: Scanner | None) -> None:
        """Raises :class:`ConfigurationError` if there is no name server to ask, or RSPAMD_URL is wrong."""
        self._hostname = settings.HOSTNAME
        self._resolver = resolver(settings)
        self._scan, self._policy = ContentScan.of(settings, scanner), ReceivedMailPolicy.of(settings)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")
        self._turns = asyncio.Semaphore(THREADS)

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._scan.close()

    async def judged(
        self, transaction: MailTransaction, content: bytes, peer: DoorPeer, policies: Collection[Policy]
    ) -> Judged:
        """Return what happens to a message at domains with these policies."""
        try:
            await asyncio.wait_for(self._turns.acquire(), TURN_SECONDS)
        except TimeoutError:
            return Judged(BUSY, content, {})
        try:
            work = partial(self._judge, transaction, content, peer, policies)
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._turns.release()

    def _judge(
        self, transaction: MailTransaction, content: bytes, peer: DoorPeer, policies: Collection[Policy]
    ) -> Judged:
        sender = verify(content, transaction.mail_from, peer.helo, peer.address, self._resolver, self._hostname)
        origin = MailOrigin(peer.address, peer.helo, transaction.mail_from, transaction.recipients[0])
        found = self._scan.scan(content, origin)
        decisions = {one: self._policy.decide(sender, found, one) for one in policies}
        reply, treatments = together({str(one): decision for one, decision in decisions.items()})
        if reply is not None:
            return Judged(reply, content, {})
        fields = {NAME: sender.authentication_results, **found.fields}
        reasons = {one: decisions[one].reason for one in policies if treatments[one] is Treatment.QUARANTINE}
        return Judged(None, marked(content, self._hostname, fields, [QUARANTINE_FIELD]), reasons)


def quarantine_field(reason: str) -> bytes:
    """Return the first field of a message that the mailboxes' store puts into quarantine."""
    return f"{QUARANTINE_FIELD}: {one_line(reason)}\r\n".encode("ascii")
