"""The verb: take a mail at RETURN_PATH_DOMAIN, find the deliveries that it is about, and say what it changes.

It is a destination of the local relay (``relays/local.py``), and tells the SMTP door which recipients exist.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from mailbbgun.bounces.classify import Classifier
from mailbbgun.bounces.read import read
from mailbbgun.bounces.report import MailReport, ReportKind
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import RETURNED
from mailbbgun.database.db import Database
from mailbbgun.relays.local import Destination
from mailbbgun.return_paths import repo
from mailbbgun.return_paths.effect import ReportEffect
from mailbbgun.return_paths.paths import PREFIX, ReturnPaths
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Outcome, Phase
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.spooled import Raw

log = logging.getLogger("mailbbgun.return_paths")

#: Octets of a report that are read, at most: the rest is the mail that came back.
READ_SIZE = 2 * 1024 * 1024
#: Seconds to wait for the end of the attempt that a report is about, at most, and between two looks.
PATIENCE, LOOK_SECONDS = 2.0, 0.05
#: Recipients in a report without a return path that are looked for, at most.
MOST_RECIPIENTS = 100
#: What a mail to a return path that is forged or too old is counted as.
FORGED = "forged"

_TAKEN = Reply(250, "2.1.5", "the report was read")
NO_SUCH = Reply(550, "5.1.1", "there is no such address here, or no longer")
_WAITS = Reply(451, "4.3.2", "the attempt that it is about has not ended")


class Reports:
    """What takes mail at RETURN_PATH_DOMAIN. Thread-safe."""

    def __init__(
        self,
        database: Database,
        paths: ReturnPaths,
        counters: Counters,
        mailboxes: Destination | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        """``mailboxes`` takes mail to the domain's other addresses, if the domain is local, too."""
        self._database, self._paths, self._counters, self._mailboxes = database, paths, counters, mailboxes
        self._classifier = classifier

    def takes(self, domain: str, tenant_id: UUID | None) -> bool:
        """Return whether a domain is RETURN_PATH_DOMAIN."""
        return self._paths.used and domain == self._paths.domain

    def tenant_of(self, address: str) -> UUID | None:
        """Return the tenant that a report to an address at RETURN_PATH_DOMAIN is stored for; None: no such address.

        For a return path it is the tenant of the delivery. Raises :class:`DatabaseUnavailable`,
        :class:`SecretUnreadable`.
        """
        if self._paths.mailbox(address):
            return DEFAULT_TENANT
        delivery_id = self._delivery_of(address)
        return repo.owner(self._database, delivery_id) if delivery_id else None

    def deliver(self, envelope: Envelope) -> Mapping[str, Outcome]:
        """Return the outcome of each recipient, with what the report changes: see ``Destination``."""
        outcomes: dict[str, Outcome] = {}
        reports = [one for one in envelope.recipients if self._is_for_reports(one)]
        others = tuple(one for one in envelope.recipients if one not in reports)
        if reports:
            head = _head(envelope.raw)
            report = read(head, self._classifier)
            outcomes |= {one: self._outcome(one, report, head) for one in reports}
        if others:
            outcomes |= self._elsewhere(envelope, others)
        return outcomes

    def _is_for_reports(self, address: str) -> bool:
        return self._paths.mailbox(address) is not None or address.lower().startswith(PREFIX)

    def _elsewhere(self, envelope: Envelope, others: Sequence[str]) -> Mapping[str, Outcome]:
        if self._mailboxes is None or not self._mailboxes.takes(self._paths.domain, None):
            return dict.fromkeys(others, Bounced(NO_SUCH, Phase.RCPT))
        return self._mailboxes.deliver(_for(envelope, others))

    def _outcome(self, address: str, report: MailReport, head: bytes) -> Outcome:
        if self._paths.mailbox(address):
            delivery_id = self._paths.mentioned(head)
        elif (delivery_id := self._delivery_of(address)) is None:
            return Bounced(NO_SUCH, Phase.RCPT)
        if delivery_id is None:
            found, proved = self._named(report), False
        else:
            found, proved = [delivery_id], True
        if any(not self._ended(one) for one in found):
            return Deferred(_WAITS, Phase.RCPT)
        if not found:
            self._counters.add(RETURNED, "nothing")
            return Delivered(_TAKEN)
        return Delivered(_TAKEN, effect=ReportEffect(report, found, proved, self._counters))

    def _delivery_of(self, address: str) -> UUID | None:
        """Return the delivery of a return path; None, counted and logged, if it is forged or too old."""
        delivery_id = self._paths.delivery_of(address)
        if delivery_id is None and self._paths.is_ours(address) and address.lower().startswith(PREFIX):
            self._counters.add(RETURNED, FORGED)
            log.info("return_path_refused", extra={"address": address[:254]})
        return delivery_id

    def _named(self, report: MailReport) -> Sequence[UUID]:
        """Return the deliveries that a report names by the Message-ID of ours and their recipients."""
        if report.message_id_header is None or report.kind not in _NAMED_BY:
            return []
        recipients = [one.address for one in report.recipients[:MOST_RECIPIENTS]]
        return repo.named(self._database, report.message_id_header, recipients)

    def _ended(self, delivery_id: UUID) -> bool:
        """Return whether no worker has a delivery in hand; wait for that a little.

        A fast server sends its report before the result of the attempt is committed.
        """
        until = time.monotonic() + PATIENCE
        while repo.in_hand(self._database, delivery_id):
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True


#: Reports that name the recipients that they are about.
_NAMED_BY = frozenset({ReportKind.FAILURE, ReportKind.DELAY, ReportKind.COMPLAINT})


def _for(envelope: Envelope, recipients: Sequence[str]) -> Envelope:
    return replace(envelope, recipients=tuple(recipients))


def _head(raw: Raw) -> bytes:
    """Return the beginning of a mail. Raises OSError."""
    if isinstance(raw, bytes):
        return raw[:READ_SIZE]
    blocks, size = [], 0
    for block in raw.octets():
        blocks.append(block)
        size += len(block)
        if size >= READ_SIZE:
            break
    return b"".join(blocks)[:READ_SIZE]
