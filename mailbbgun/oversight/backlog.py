"""Counts pending deliveries by the reason why they are pending.

Each count reads the rows of one partial index only, so its cost grows with the pending deliveries
and not with history.
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
# Together these are all deliveries that are pending and neither claimed nor held. Each part has an
# index of its own.
_PARTS = (
    _UNPUBLISHED,
    Delivery.published_at < Delivery.next_attempt_at,
    Delivery.published_at >= Delivery.next_attempt_at,
)


class WaitingDeliveries(NamedTuple):
    """How many deliveries are due, and for how many seconds the oldest has been.

    None if none is due.
    """

    deliveries: int
    oldest_seconds: float | None


class Leased(NamedTuple):
    """How many deliveries one worker has claimed, and when the first of their leases ends."""

    deliveries: int
    lease_until: datetime | None


class Backlog(NamedTuple):
    """All pending deliveries: due now, due later, held for a suspended tenant, or claimed.

    ``claimed`` is by the id of the worker. ``unpublished`` are due and have no hint on the queue
    yet; they are among ``due``.
    """

    due: WaitingDeliveries
    later: int
    held: int
    claimed: Mapping[UUID, Leased]
    unpublished: WaitingDeliveries


def look(session: Session) -> Backlog:
    """Count the pending deliveries of all tenants."""
    now = session.scalars(select(db_now())).one()
    found = [_count(session, now, *_IDLE, part) for part in _PARTS]
    # Deliveries that must be sent in isolation are never published: workers look for them.
    unpublished, _ = _count(session, now, *_IDLE, _UNPUBLISHED, Delivery.crashes < ISOLATED_FROM)
    ages = [due.oldest_seconds for due, _ in found if due.oldest_seconds is not None]
    held = (
        session.scalar(select(func.count()).select_from(Delivery).where(*_IDLE, Delivery.next_attempt_at.is_(None)))
        or 0
    )
    due = WaitingDeliveries(sum(one.deliveries for one, _ in found), max(ages, default=None))
    return Backlog(due, sum(later for _, later in found), held, _claimed(session), unpublished)


def _count(session: Session, now: datetime, *which: ColumnElement[bool]) -> tuple[WaitingDeliveries, int]:
    """Return how many of these deliveries are due now, and how many later."""
    due, oldest = func.count().filter(_DUE), func.min(Delivery.next_attempt_at).filter(_DUE)
    later = func.count().filter(Delivery.next_attempt_at > db_now())
    number, since, waiting = session.execute(select(due, oldest, later).select_from(Delivery).where(*which)).one()
    return WaitingDeliveries(number, None if since is None else max((now - since).total_seconds(), 0.0)), waiting


def _claimed(session: Session) -> dict[UUID, Leased]:
    return {worker: Leased(*held) for worker, held in leasing.by_owner(session, DELIVERIES).items()}
