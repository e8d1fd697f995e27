"""The verb: change what a report changes, in the transaction that ends the report's own delivery."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from mailbbgun.bounces.report import MailReport
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import RETURNED
from mailbbgun.database.compiled import Statements, StatementStep
from mailbbgun.events import log
from mailbbgun.events.changes.record import summing
from mailbbgun.return_paths import repo
from mailbbgun.return_paths.judge import ReportedChange, decided
from mailbbgun.return_paths.repo import ReturnedDelivery
from mailbbgun.smtp.outcome import DeliveryIds
from mailbbgun.suppressions.repo import Entry, suppressing
from mailbbgun.suppressions.targets import concerning

lines = logging.getLogger("mailbbgun.return_paths")

#: What a report is counted as that changed nothing.
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class ReportEffect:
    """What a report changes. ``proved``: it has a return path of ours (``judge.py``).

    The suppression is stored with the event. A delivery to the address that waits is stopped when it
    is claimed the next time; one that a worker has in hand still leaves.
    """

    report: MailReport
    delivery_ids: Sequence[UUID]
    proved: bool
    counters: Counters

    @property
    def gate(self) -> None:
        """It may be applied in any case."""

    @property
    def changes(self) -> Sequence[UUID]:
        """The deliveries that the report is about."""
        return self.delivery_ids

    @property
    def makes_due(self) -> bool:
        """It makes no deliveries."""
        return False

    def steps(self, statements: Statements, delivery: DeliveryIds) -> Sequence[StatementStep]:
        """Make the change; return no statements. See ``smtp/outcome.Effect``.

        They are executed at once: the next report of the transaction may be about the same delivery.
        """
        for identifier in self.delivery_ids:
            one = repo.locked(statements, identifier)
            happened = repo.happened(statements, one) if one else ()
            decision = one and decided(self.report, one.address, one.status, happened, proved=self.proved)
            self.counters.add(RETURNED, decision.kind.value if decision else NOTHING)
            if one and decision:
                statements.run(_steps(statements.dialect, one, decision, delivery))
        return ()


def _steps(
    dialect: str, one: ReturnedDelivery, decision: ReportedChange, report: DeliveryIds
) -> Sequence[StatementStep]:
    kept = str(report.message_id) if report.tenant_id == one.tenant_id else None
    event = log.event(one.tenant_id, one.message_id, one.id, decision.kind, {**decision.data, "report_id": kept})
    # Before the commit: nothing is told of it here. If it fails, the repeat tells it once more.
    log.print_lines([event], [one.key_id])
    steps = [log.appending(dialect, [event])]
    if decision.ends:
        steps.append(repo.bounced(one.id, decision.data.get("code"), decision.data.get("reply")))
        steps += summing(dialect, [one.message_id])
    if decision.suppress:
        entry = Entry(target=concerning(one.address)[0], reason=decision.suppress)
        steps += suppressing(dialect, one.tenant_id, one.test, entry)
    return steps
