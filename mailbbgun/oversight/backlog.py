"""Counts pending deliveries by the reason why they are pending.

Each count reads the rows of one partial index only, so its cost grows with the pending deliveries
and not with history.
"""

from collections.abc import Iterable, Mapping
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
    lanes: Mapping[str, WaitingDeliveries]  # those that are due, by their lane; lanes without any are left out


def look(session: Session) -> Backlog:
    """Count the pending deliveries of all tenants."""
    now = session.scalars(select(db_now())).one()
    found = [_count(session, now, *_IDLE, part) for part in _PARTS]
    lanes = {lane: _together([its[lane] for its in found if lane in its]) for lane in sorted(set().union(*found))}
    # Deliveries that must be sent in isolation are never published: workers look for them.
    unpublished = _together(_count(session, now, *_IDLE, _UNPUBLISHED, Delivery.crashes < ISOLATED_FROM).values())
    held = (
        session.scalar(select(func.count()).select_from(Delivery).where(*_IDLE, Delivery.next_attempt_at.is_(None)))
        or 0
    )
    every = _together(lanes.values())
    due_lanes = {lane: one.due for lane, one in lanes.items() if one.due.deliveries}
    return Backlog(every.due, every.later, held, _claimed(session), unpublished.due, due_lanes)


class _Pending(NamedTuple):
    due: WaitingDeliveries
    later: int


def _together(several: Iterable[_Pending]) -> _Pending:
    counted = list(several)
    ages = [one.due.oldest_seconds for one in counted if one.due.oldest_seconds is not None]
    due = WaitingDeliveries(sum(one.due.deliveries for one in counted), max(ages, default=None))
    return _Pending(due, sum(one.later for one in counted))


def _count(session: Session, now: datetime, *which: ColumnElement[bool]) -> dict[str, _Pending]:
    """Return how many of these deliveries are due now, and how many later, by their lane."""
    due, oldest = func.count().filter(_DUE), func.min(Delivery.next_attempt_at).filter(_DUE)
    later = func.count().filter(Delivery.next_attempt_at > db_now())
    counted = select(Delivery.lane, due, oldest, later).where(*which).group_by(Delivery.lane)
    return {
        lane: _Pending(
            WaitingDeliveries(n, None if since is None else max((now - since).total_seconds(), 0.0)), waiting
        )
        for lane, n, since, waiting in session.execute(counted)
    }


def _claimed(session: Session) -> dict[UUID, Leased]:
    return {worker: Leased(*held) for worker, held in leasing.by_owner(session, DELIVERIES).items()}
