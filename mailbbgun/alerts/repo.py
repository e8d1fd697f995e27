"""Queries on rules, incidents and notices."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from mailbbgun.alerts.models import ALERTS, INCIDENTS, NOTICES, Alert, Incident, Notice
from mailbbgun.alerts.notices import TEST
from mailbbgun.alerts.state import IncidentState
from mailbbgun.core.ids import first_id_at
from mailbbgun.database.db import db_now

_A, _I, _N = ALERTS.c, INCIDENTS.c, NOTICES.c

#: Rows that one statement of retention deletes.
BATCH = 500


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[Alert], int, UUID | None]:
    """Return a page of a tenant's rules, newest first, their number, and the last id if more follow."""
    statement = select(Alert).where(Alert.tenant_id == tenant_id)
    statement = statement.order_by(Alert.id.desc()).offset(offset).limit(limit + 1)
    found = session.scalars(statement if after is None else statement.where(Alert.id < after)).all()
    shown = found[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many rules a tenant has."""
    return session.scalar(select(func.count()).select_from(Alert).where(Alert.tenant_id == tenant_id)) or 0


def alert(session: Session, tenant_id: UUID, called: UUID | str, *, lock: bool = False) -> Alert | None:
    """Return a tenant's rule by its id or name; None if there is none. ``lock``: until the commit."""
    its = Alert.id == called if isinstance(called, UUID) else Alert.name == called
    statement = select(Alert).where(Alert.tenant_id == tenant_id, its)
    return session.scalar(
        (statement.with_for_update() if lock else statement).execution_options(populate_existing=True)
    )


def change(session: Session, tenant_id: UUID, alert_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a rule."""
    its = (_A.tenant_id == tenant_id, _A.id == alert_id)
    session.execute(update(ALERTS).where(*its).values(**values))


def remove(session: Session, tenant_id: UUID, alert_id: UUID) -> None:
    """Delete a rule, its incidents and its notices."""
    for table, column in ((NOTICES, _N.alert_id), (INCIDENTS, _I.alert_id), (ALERTS, _A.id)):
        session.execute(delete(table).where(table.c.tenant_id == tenant_id, column == alert_id))


class DueAlert(NamedTuple):
    """A rule that this worker looks at now."""

    id: UUID
    tenant_id: UUID
    kind: str


def claim_due(session: Session, seconds: float, limit: int) -> list[DueAlert]:
    """Take rules that nobody has looked at for ``seconds``. The commit makes others leave them for as long."""
    # A time in the future is from a clock that was set back.
    stale = or_(_A.checked_at <= db_now(-seconds), _A.checked_at > db_now(seconds))
    due = select(_A.id).where(_A.enabled, stale).order_by(_A.checked_at).limit(limit)
    chosen = due.with_for_update(skip_locked=True).cte("due").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = update(ALERTS).where(_A.id.in_(select(chosen.c.id))).values(checked_at=db_now())
    return [DueAlert(*row) for row in session.execute(statement.returning(_A.id, _A.tenant_id, _A.kind))]


def open_incidents(session: Session, tenant_id: UUID, alert_ids: Collection[UUID]) -> Sequence[Incident]:
    """Return the incidents of these rules that have not ended."""
    its = (Incident.tenant_id == tenant_id, Incident.alert_id.in_(alert_ids), Incident.resolved_at.is_(None))
    found = session.scalars(select(Incident).where(*its).execution_options(populate_existing=True)).all()
    for one in found:  # they are values: a change is written by a statement that names the tenant
        session.expunge(one)
    return found


def incidents(
    session: Session,
    tenant_id: UUID,
    *,
    alert_id: UUID | None = None,
    state: str | None = None,
    limit: int,
    offset: int,
    after: UUID | None,
) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of incidents that have fired, newest first, their number, and the last id if more follow."""
    which: list[ColumnElement[bool]] = [Incident.tenant_id == tenant_id]
    which.append(Incident.state == state if state else Incident.fired_at.is_not(None))
    which += [Incident.alert_id == alert_id] if alert_id else []
    number = session.scalar(select(func.count()).select_from(Incident).where(*which)) or 0
    names = (Alert.name.label("alert"), Alert.kind)
    statement = select(Incident, *names).join(Alert, Alert.id == Incident.alert_id)
    statement = statement.where(*which, Alert.tenant_id == tenant_id).order_by(Incident.id.desc())
    rows = session.execute(
        (statement if after is None else statement.where(Incident.id < after)).offset(offset).limit(limit + 1)
    ).all()
    shown = [
        {column.name: getattr(one, column.name) for column in INCIDENTS.columns} | {"alert": name, "kind": kind}
        for one, name, kind in rows[:limit]
    ]
    return shown, number, shown[-1]["id"] if shown and len(rows) > limit else None


def waiting_notices(session: Session, tenant_id: UUID, alert_id: UUID, about: str, now: datetime) -> Sequence[Notice]:
    """Return a rule's notices that still wait for other subjects, and lock them."""
    its = (Notice.tenant_id == tenant_id, Notice.alert_id == alert_id, Notice.about == about)
    unsent = (Notice.done_at.is_(None), Notice.tries == 0, Notice.due_at > now)
    return session.scalars(select(Notice).where(*its, *unsent).with_for_update()).all()


def claim_notice(session: Session, channels: Collection[str], seconds: float) -> tuple[UUID, UUID] | None:
    """Take a notice that is due, and return its id and tenant. Nobody else takes it for ``seconds``."""
    its = (_N.done_at.is_(None), _N.due_at <= db_now(), _N.channel.in_(channels))
    due = select(_N.id).where(*its).order_by(_N.due_at).limit(1)
    chosen = due.with_for_update(skip_locked=True).cte("due").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = update(NOTICES).where(_N.id.in_(select(chosen.c.id)))
    taken = statement.values(due_at=db_now(seconds), tries=_N.tries + 1).returning(_N.id, _N.tenant_id)
    found = session.execute(taken).one_or_none()
    return None if found is None else (found.id, found.tenant_id)


def notice(session: Session, tenant_id: UUID, notice_id: UUID) -> Notice | None:
    """Return a notice of a tenant."""
    return session.scalar(select(Notice).where(Notice.tenant_id == tenant_id, Notice.id == notice_id))


def tried(session: Session, tenant_id: UUID, since: datetime) -> int:
    """Return how many tests of a tenant's rules there were since a moment."""
    its = (_N.tenant_id == tenant_id, _N.id >= first_id_at(since), _N.about == TEST)
    return session.scalar(select(func.count(_N.change_id.distinct())).where(*its)) or 0


def message_of(session: Session, tenant_id: UUID, change_id: UUID, channel: str) -> UUID | None:
    """Return the message that told of a change on a channel; None if there is none."""
    its = (_N.tenant_id == tenant_id, _N.change_id == change_id, _N.channel == channel)
    found: UUID | None = session.scalar(select(_N.message_id).where(*its))
    return found


def note(session: Session, tenant_id: UUID, notice_id: UUID, values: Mapping[str, Any]) -> None:
    """Write down what became of a notice."""
    session.execute(update(NOTICES).where(_N.tenant_id == tenant_id, _N.id == notice_id).values(**values))


def forget_old(session: Session, days: int) -> bool:
    """Delete incidents and notices that ended ``days`` ago, some of them; return whether there may be more."""
    before = db_now(-days * 86_400)
    deleted = 0
    for table, ended in ((INCIDENTS, _I.resolved_at), (NOTICES, _N.done_at)):
        old = select(table.c.id).where(ended < before).limit(BATCH)
        statement = delete(table).where(table.c.id.in_(old)).returning(table.c.id)
        deleted = max(deleted, len(session.execute(statement).all()))
    return deleted == BATCH


def states(session: Session, tenant_id: UUID, alert_ids: Collection[UUID]) -> Mapping[UUID, IncidentState]:
    """Return the worst state of each of these rules; those without an incident are left out."""
    order = (IncidentState.PENDING, IncidentState.RESOLVING, IncidentState.FIRING)
    found: dict[UUID, IncidentState] = {}
    for one in open_incidents(session, tenant_id, alert_ids):
        found[one.alert_id] = max(
            found.get(one.alert_id, IncidentState.PENDING), IncidentState(one.state), key=order.index
        )
    return found
