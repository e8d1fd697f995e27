"""How many deliveries are pending, and why each still is: for people who look at the service.

Each count reads the rows of one partial index only, so its cost grows with what is pending and not with history.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailbbgun.database import leasing
from mailbbgun.database.db import db_now
from mailbbgun.deliver.claim import ISOLATED_FROM
from mailbbgun.messages.models import DELIVERIES, Delivery
from mailbbgun.messages.status import PENDING

_IDLE = (Delivery.status == PENDING, Delivery.lease_owner.is_(None))
_DUE = Delivery.next_attempt_at <= db_now()
_UNPUBLISHED = Delivery.published_at.is_(None)
# Together these are all that is pending and neither claimed nor held. Each has an index of its own.
_PARTS = (
    _UNPUBLISHED,
    Delivery.published_at < Delivery.next_attempt_at,
    Delivery.published_at >= Delivery.next_attempt_at,
)


class WaitingDeliveries(NamedTuple):
    """How many deliveries are due, and for how many seconds the first of them has been; None if none is."""

    deliveries: int
    oldest_seconds: float | None


class Leased(NamedTuple):
    """How many deliveries one worker has claimed, and when the first of these leases ends."""

    deliveries: int
    lease_until: datetime | None


class Backlog(NamedTuple):
    """All pending deliveries: due now, due later, held for a suspended tenant, or claimed.

    ``claimed`` is by the id of the worker. ``unpublished`` are due, and not given to the queue yet;
    ``due`` counts them, too.
    """

    due: WaitingDeliveries
    later: int
    held: int
    claimed: Mapping[UUID, Leased]
    unpublished: WaitingDeliveries


def look(session: Session) -> Backlog:
    """Count what is pending, of all tenants."""
    now = session.scalars(select(db_now())).one()
    found = [_count(session, now, *_IDLE, part) for part in _PARTS]
    # What must be sent alone is never published: workers look for it themselves.
    unpublished, _ = _count(session, now, *_IDLE, _UNPUBLISHED, Delivery.crashes < ISOLATED_FROM)
    ages = [due.oldest_seconds for due, _ in found if due.oldest_seconds is not None]
    held = (
        session.scalar(select(func.count()).select_from(Delivery).where(*_IDLE, Delivery.next_attempt_at.is_(None)))
        or 0
    )
    due = WaitingDeliveries(sum(one.deliveries for one, _ in found), max(ages, default=None))
    return Backlog(due, sum(later for _, later in found), held, _claimed(session), unpublished)


def _count(session: Session, now: datetime, *which: ColumnElement[bool]) -> tuple[WaitingDeliveries, int]:
    """Return what is due of these rows, and how many are due later."""
    due, oldest = func.count().filter(_DUE), func.min(Delivery.next_attempt_at).filter(_DUE)
    later = func.count().filter(Delivery.next_attempt_at > db_now())
    number, since, waiting = session.execute(select(due, oldest, later).select_from(Delivery).where(*which)).one()
    return WaitingDeliveries(number, None if since is None else max((now - since).total_seconds(), 0.0)), waiting


def _claimed(session: Session) -> dict[UUID, Leased]:
    return {worker: Leased(*held) for worker, held in leasing.by_owner(session, DELIVERIES).items()}
