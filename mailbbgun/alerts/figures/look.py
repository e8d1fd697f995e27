"""Finds the figures of a rule: one for each subject. Each costs a bounded number of small statements."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from mailbbgun.alerts.figures import counts, reports
from mailbbgun.alerts.kinds import AlertKind
from mailbbgun.alerts.models import Alert
from mailbbgun.attachments.models import Blob
from mailbbgun.database.db import db_now
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.status import PENDING
from mailbbgun.oversight import backlog
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.smtp_accounts.edit import MOST as MOST_ACCOUNTS
from mailbbgun.webhooks.models import WebhookEndpoint

#: The due deliveries of one tenant are counted so far, and no further.
MOST_DUE = 50_000
#: Hours of the past, of which mail is compared with; fewer than the least say nothing.
PAST_HOURS, LEAST_HOURS = 7 * 24, 24


class Figure(NamedTuple):
    """A figure, and what a person would ask next. None: there is nothing to say."""

    value: float | None
    detail: str | None = None


Figures = Mapping[str, Figure]


def look(session: Session, alert: Alert, now: datetime) -> Figures:
    """Return the figures of a rule by subject. A subject without one is fine.

    The session must be of the rule's tenant, or of all if it is about all tenants.
    """
    return _LOOKS[AlertKind(alert.kind)](session, alert, now)


def usual(by_hour: Mapping[int, int], first_hour: int | None, begin: int) -> float | None:
    """Return how many mails an hour are usual at ``begin``; None if the past is too short to say.

    That is the average of the last seven days, or if it is larger that of the same hour of these days: most
    tenants send more by day. The hour of ``begin`` and the one before are not the past.
    """
    if first_hour is None:
        return None
    end = begin - begin % 3600 - 3600
    hours = range(max(first_hour, end - PAST_HOURS * 3600), end, 3600)
    if len(hours) < LEAST_HOURS:
        return None
    same = [by_hour.get(hour, 0) for hour in hours if (begin - hour) // 3600 % 24 == 0]
    average = sum(by_hour.get(hour, 0) for hour in hours) / len(hours)
    return max(average, sum(same) / len(same) if same else 0.0)


def _failure_rate(session: Session, alert: Alert, now: datetime) -> Figures:
    since = now - timedelta(seconds=alert.window_seconds)
    failed = counts.total(session, alert.tenant_id, counts.FAILED, since)
    ended = failed + counts.total(session, alert.tenant_id, [Kind.DELIVERED], since)
    if not ended or ended < alert.least:
        return {}
    return {"": Figure(100.0 * failed / ended, f"{failed} of {ended} deliveries failed")}


def _nothing_delivered(session: Session, alert: Alert, now: datetime) -> Figures:
    # Changing a rule begins anew, and so does enabling it.
    last = max(counts.last(session, alert.tenant_id, Kind.DELIVERED) or alert.updated_at, alert.updated_at)
    came = counts.total(session, alert.tenant_id, [Kind.ACCEPTED], last)
    if came < alert.least:
        return {}
    return {"": Figure(max((now - last).total_seconds(), 0.0) / 60, f"{came} messages were accepted meanwhile")}


def _unusual_volume(session: Session, alert: Alert, now: datetime) -> Figures:
    tenant_id, since = alert.tenant_id, now - timedelta(seconds=alert.window_seconds)
    came = counts.total(session, tenant_id, [Kind.ACCEPTED], since)
    hours = counts.by_hour(session, tenant_id, Kind.ACCEPTED)
    an_hour = usual(hours, counts.first_hour(session, tenant_id), int(since.timestamp()))
    if came < alert.least or an_hour is None:
        return {}
    expected = an_hour * alert.window_seconds / 3600
    # A tenant that hardly sends is compared with one mail.
    return {"": Figure(came / max(expected, 1.0), f"{came} messages came, and {expected:.0f} are usual")}


def _queue_age(session: Session, alert: Alert, now: datetime) -> Figures:
    deliveries, oldest = _due(session, alert, now)
    return {} if oldest is None else {"": Figure(oldest, f"{deliveries} deliveries are due")}


def _queue_depth(session: Session, alert: Alert, now: datetime) -> Figures:
    deliveries, oldest = _due(session, alert, now)
    return {"": Figure(float(deliveries), None if oldest is None else f"the oldest has waited for {oldest:.0f} s")}


def _due(session: Session, alert: Alert, now: datetime) -> tuple[int, float | None]:
    """Return how many deliveries are due and not in hand, and for how many seconds the oldest has been."""
    if alert.all_tenants:
        return backlog.look(session).due
    waiting = (
        select(Delivery.next_attempt_at.label("due"))
        .join(Message, Message.id == Delivery.message_id)
        .where(Message.tenant_id == alert.tenant_id, Message.status == PENDING, Message.test.is_(False))
        .where(or_(Message.send_at.is_(None), Message.send_at <= db_now()))
        .where(Delivery.tenant_id == alert.tenant_id, Delivery.status == PENDING)
        .where(Delivery.lease_owner.is_(None), Delivery.next_attempt_at <= db_now())
        .order_by(Message.id)
        .limit(MOST_DUE)
        .subquery()
    )
    number, since = session.execute(select(func.count(), func.min(waiting.c.due))).one()
    return number, None if since is None else max((now - since).total_seconds(), 0.0)


def _account_paused(session: Session, alert: Alert, now: datetime) -> Figures:
    owned, _, _ = accounts.accounts(session, alert.tenant_id, limit=MOST_ACCOUNTS, offset=0, after=None)
    found = accounts.open_circuits(session, [one.id for one in owned if one.enabled])
    return {
        one.setting_name: Figure(float(len(found[one.id])), f"{one.smtp_host} said: {found[one.id][0].reply}")
        for one in owned
        if one.id in found
    }


def _webhook_dead(session: Session, alert: Alert, now: datetime) -> Figures:
    of_ours = (WebhookEndpoint.tenant_id == alert.tenant_id, WebhookEndpoint.failing_since.is_not(None))
    # One that a person disabled is meant to be silent.
    meant = or_(WebhookEndpoint.enabled, WebhookEndpoint.disabled_reason.is_not(None))
    columns = (WebhookEndpoint.url, WebhookEndpoint.failing_since, WebhookEndpoint.disabled_reason)
    found: dict[str, Figure] = {}
    for url, since, reason in session.execute(select(*columns).where(*of_ours, meant).order_by(WebhookEndpoint.id)):
        minutes = max((now - (since or now)).total_seconds(), 0.0) / 60
        if minutes > (found.get(url, Figure(None)).value or 0.0):
            found[url] = Figure(minutes, reason)
    return found


def _blob_use(session: Session, alert: Alert, now: datetime) -> Figures:
    whose = [] if alert.all_tenants else [Blob.tenant_id == alert.tenant_id]
    size, files = session.execute(select(func.sum(Blob.size), func.count()).where(*whose)).one()
    return {"": Figure(float(size or 0) / 1e6, f"{files} files")}


def _disk_use(session: Session, alert: Alert, now: datetime) -> Figures:
    return {host: Figure(used) for host, used in reports.disks(session, now).items()}


def _failed_logins(session: Session, alert: Alert, now: datetime) -> Figures:
    since = now - timedelta(seconds=alert.window_seconds)
    return {"": Figure(float(reports.failed_logins(session, since)))}


_LOOKS: dict[AlertKind, Callable[[Session, Alert, datetime], Figures]] = {
    AlertKind.FAILURE_RATE: _failure_rate,
    AlertKind.QUEUE_AGE: _queue_age,
    AlertKind.QUEUE_DEPTH: _queue_depth,
    AlertKind.ACCOUNT_PAUSED: _account_paused,
    AlertKind.WEBHOOK_DEAD: _webhook_dead,
    AlertKind.DISK_USE: _disk_use,
    AlertKind.BLOB_USE: _blob_use,
    AlertKind.NOTHING_DELIVERED: _nothing_delivered,
    AlertKind.UNUSUAL_VOLUME: _unusual_volume,
    AlertKind.FAILED_LOGINS: _failed_logins,
}
