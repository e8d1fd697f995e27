"""The verb: look at the rules that are due, and write down what has changed.

Each rule is looked at by one worker at a time: it takes rules by a conditional UPDATE, and locks a rule's row while
it writes. State, event and notices are one transaction. What was not committed is found again at the next look.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Insert, Update, delete, insert, select, update
from sqlalchemy.orm import Session

from mailbbgun.alerts import notices, repo
from mailbbgun.alerts.figures import counts, look, reports
from mailbbgun.alerts.figures.look import Figure, Figures
from mailbbgun.alerts.kinds import ABOUT, AlertKind
from mailbbgun.alerts.models import INCIDENTS, NOTICES, Alert, Incident
from mailbbgun.alerts.repo import DueAlert
from mailbbgun.alerts.state import Change, Condition, IncidentState, RuleState, step
from mailbbgun.core.errors import Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database, db_now
from mailbbgun.events import log as events
from mailbbgun.events.kinds import Kind

#: Rules that a worker takes at once, and pieces of a tenant's log that it reads at once.
AT_ONCE, PIECES = 50, 50
#: Subjects of a rule that are looked at. A tenant with more accounts than this hears of the first ones.
MOST_SUBJECTS = 500

_EVENTS = {Change.FIRED: Kind.ALERT_FIRED, Change.RESOLVED: Kind.ALERT_RESOLVED}

log = logging.getLogger("mailbbgun.alerts")


class Evaluator:
    """Looks at rules for one worker process."""

    def __init__(self, database: Database, folder: Path, seconds: int, stopped: Callable[[], bool]) -> None:
        """``folder`` is on the disk that is reported; each rule is looked at every so many ``seconds``."""
        self._database, self._folder, self._seconds, self._stopped = database, folder, seconds, stopped

    def report(self) -> None:
        """Report how full this machine's disk is, and forget old counts. Raises :class:`DatabaseUnavailable`."""
        with self._database.write() as session:
            now = session.scalars(select(db_now())).one()
            reports.report_disk(session, self._folder, now)
            reports.forget_old(session, now)
            counts.forget_old(session, now)

    def forget_old(self, days: int) -> None:
        """Delete incidents and notices that ended ``days`` ago. Raises :class:`DatabaseUnavailable`."""
        more = True
        while more and not self._stopped():
            with self._database.write() as session:
                more = repo.forget_old(session, days)

    def turn(self) -> None:
        """Look at all rules that are due. Raises :class:`DatabaseUnavailable`."""
        read: set[UUID] = set()  # tenants whose log was read in this turn
        while not self._stopped():
            with self._database.write() as session:
                # Half a second less, so that a timer that is late by a hair does not skip a turn.
                due = repo.claim_due(session, self._seconds - 0.5, AT_ONCE)
            for one in due:
                if ABOUT[AlertKind(one.kind)].reads_log and one.tenant_id not in read:
                    self._read_log(one.tenant_id)
                    read.add(one.tenant_id)
                self._try(one)
            if len(due) < AT_ONCE:
                return

    def _read_log(self, tenant_id: UUID) -> None:
        for _ in range(PIECES):
            if self._stopped() or not counts.read_on(self._database, tenant_id):
                return

    def _try(self, due: DueAlert) -> None:
        try:
            self._look(due)
        except Unavailable:
            raise
        except Exception:  # a fault of one rule must stop neither the others nor the worker's mail
            log.exception("alert_not_looked_at", extra={"alert_id": due.id, "tenant_id": due.tenant_id})

    def _look(self, due: DueAlert) -> None:
        """Find a rule's figures, then write what they change."""
        with self._database.read(due.tenant_id) as session:
            alert = repo.alert(session, due.tenant_id, due.id)
            now = session.scalars(select(db_now())).one()
            found = look.look(session, alert, now) if alert and not alert.all_tenants else None
        if alert is None:
            return
        if found is None:
            with self._database.read() as session:
                found = look.look(session, alert, now)
        with self._database.write(due.tenant_id) as session:
            current = repo.alert(session, due.tenant_id, due.id, lock=True)
            # A rule that was changed meanwhile is looked at by its new terms next time.
            if current is not None and current.enabled and current.updated_at == alert.updated_at:
                apply(session, current, found, session.scalars(select(db_now())).one())


def apply(session: Session, alert: Alert, found: Figures, now: datetime, *, ends: bool = False) -> None:
    """Write what figures change: incidents, events and notices. The rule's row is locked, the caller commits.

    ``ends``: what is back to normal is resolved at once.
    """
    resolve_seconds = 0 if ends else alert.resolve_seconds
    condition = Condition(alert.threshold, alert.resolve_threshold, alert.for_seconds, resolve_seconds)
    silenced = alert.silenced_until is not None and alert.silenced_until > now
    open_ = {one.subject: one for one in repo.open_incidents(session, alert.tenant_id, [alert.id])}
    told: dict[Change, list[Incident]] = {Change.FIRED: [], Change.RESOLVED: []}
    happened: list[dict[str, Any]] = []
    subjects = dict.fromkeys([*open_, *sorted(found)])
    for subject in list(subjects)[: MOST_SUBJECTS + len(open_)]:
        incident, figure = open_.get(subject), found.get(subject, Figure(None))
        before = _standing(incident)
        after, change, notice = step(condition, before, figure.value, now, silenced=silenced)
        incident = _written(session, alert, incident, subject, figure, after, now)
        if incident is None:
            continue
        if change is not None:
            data = notices.event_data(alert, incident, silenced=silenced)
            happened.append(events.event(alert.tenant_id, None, None, _EVENTS[change], data))
        if notice is not None:
            told[notice].append(incident)
    for change, incidents in told.items():
        tell(session, alert, change, incidents, now)
    events.append(session, happened)
    events.log_after_commit(session, happened, [None] * len(happened))


def end_all(session: Session, alert: Alert, now: datetime) -> None:
    """End all incidents of a rule that is switched off: events say so, and who was told is told. The caller commits."""
    apply(session, alert, {}, now, ends=True)


def tell(session: Session, alert: Alert, change: Change, incidents: Sequence[Incident], now: datetime) -> None:
    """Make the notices about incidents, or add them to notices of the rule that still wait. The caller commits."""
    if not incidents:
        return
    answers = list(dict.fromkeys(str(one.notice_id) for one in incidents)) if change is Change.RESOLVED else []
    items = [notices.item(one, change) for one in incidents]
    waiting = repo.waiting_notices(session, alert.tenant_id, alert.id, change.value, now) if alert.group_seconds else ()
    for notice in waiting:
        answered = list(dict.fromkeys([*notice.answers, *answers]))
        repo.note(session, alert.tenant_id, notice.id, {"items": [*notice.items, *items], "answers": answered})
    change_id = waiting[0].change_id if waiting else new_id()
    if not waiting:
        due = now + timedelta(seconds=alert.group_seconds)
        make(session, alert, change.value, change_id, items, answers, now, due)
    if change is Change.FIRED:
        its = (INCIDENTS.c.tenant_id == alert.tenant_id, INCIDENTS.c.id.in_([one.id for one in incidents]))
        session.execute(update(INCIDENTS).where(*its).values(notice_id=change_id))


def make(
    session: Session,
    alert: Alert,
    about: str,
    change_id: UUID,
    items: Sequence[Mapping[str, Any]],
    answers: Sequence[str],
    now: datetime,
    due: datetime,
) -> int:
    """Make one notice for each channel of a rule; return how many. The caller commits."""
    channels = {"mail": alert.emails, "slack": alert.slack_channel, "webhook": alert.webhook_url}
    rows = [
        {
            "id": new_id(), "tenant_id": alert.tenant_id, "alert_id": alert.id, "change_id": change_id,
            "about": about, "channel": channel, "items": list(items), "answers": list(answers),
            "due_at": due, "created_at": now, "tries": 0,
        }
        for channel, given in channels.items()
        if given
    ]  # fmt: skip
    if rows:
        session.execute(NOTICES.insert(), rows)
    return len(rows)


def _standing(incident: Incident | None) -> RuleState:
    if incident is None:
        return RuleState()
    return RuleState(
        IncidentState(incident.state), incident.held, incident.seen_at, told=incident.notice_id is not None
    )


def _written(
    session: Session,
    alert: Alert,
    incident: Incident | None,
    subject: str,
    figure: Figure,
    after: RuleState,
    now: datetime,
) -> Incident | None:
    """Write the new state of an incident; return it, or None if there is none or it never fired."""
    if after.state is IncidentState.OK and (incident is None or incident.fired_at is None):
        if incident is not None:
            its = (INCIDENTS.c.tenant_id == alert.tenant_id, INCIDENTS.c.id == incident.id)
            session.execute(delete(INCIDENTS).where(*its))
        return None
    value = figure.value or 0.0
    if incident is None:
        incident = Incident(
            id=new_id(), tenant_id=alert.tenant_id, alert_id=alert.id, subject=subject, since=now, peak=value
        )
        statement: Insert | Update = insert(INCIDENTS)
    else:
        its = (INCIDENTS.c.tenant_id == alert.tenant_id, INCIDENTS.c.id == incident.id)
        statement = update(INCIDENTS).where(*its)
    incident.state, incident.held, incident.seen_at = after.state.value, after.held, now
    incident.value, incident.peak = figure.value, max(incident.peak, value)
    incident.detail = figure.detail or incident.detail
    if after.fires and incident.fired_at is None:
        incident.fired_at = now
    if after.state is IncidentState.OK:
        incident.resolved_at, incident.state = now, "resolved"
    session.execute(statement.values({column.name: getattr(incident, column.name) for column in INCIDENTS.columns}))
    return incident
