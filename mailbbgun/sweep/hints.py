"""Hints that were never given, got lost, or are overdue: given again, a thousand at a time, and never onto a healthy backlog."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailbbgun.base.db import Database, db_now
from mailbbgun.base.errors import QueueUnavailable
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.publisher import mark_published
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.base import Queue
from mailbbgun.queues.lanes import LANES

PASS = 1000  # rows
TICK_GRACE = 1  # seconds the accepting process has to hint what it accepted, before a worker does
OVERDUE = 60  # seconds a delay queue's hint may be late
NEARLY_EMPTY = 1000  # hints on a lane; with fewer, an old hint that was not taken must be lost

log = logging.getLogger("mailbbgun.sweep")

_IDLE = (Delivery.status == PENDING, Delivery.lease_owner.is_(None))
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Stranded:
    """Rows to hint again: which, in what order, and who says so in the log."""

    why: str
    which: tuple[ColumnElement[bool], ...]
    order: Any


def never_hinted(grace: float = TICK_GRACE) -> Stranded:
    """Due for ``grace`` seconds, and no hint was ever confirmed."""
    due = Delivery.next_attempt_at <= db_now(-grace)
    return Stranded("never_hinted", (*_IDLE, Delivery.published_at.is_(None), due), Delivery.next_attempt_at)


def overdue(seconds: float = OVERDUE) -> Stranded:
    """Hinted through a delay queue only, and that hint is ``seconds`` late."""
    late = Delivery.next_attempt_at <= db_now(-seconds)
    return Stranded("overdue", (*_IDLE, Delivery.published_at < Delivery.next_attempt_at, late), Delivery.next_attempt_at)


def lost(lane: str, before: datetime) -> Stranded:
    """Hinted on a lane before that moment and still not taken. Ask :func:`nearly_empty` first."""
    hinted = Delivery.published_at >= Delivery.next_attempt_at
    return Stranded("lost", (*_IDLE, hinted, Delivery.published_at < before, Delivery.lane == lane), Delivery.published_at)


def nearly_empty(db: Database, queue: Queue, seconds: float) -> list[Stranded]:
    """Return what is lost on each lane that is nearly empty, and holds fewer hints than rows wait for one that is ``seconds`` old."""
    depths = queue.depth()
    found = []
    with db.read() as session:
        now = session.execute(select(db_now(-seconds))).scalar_one()
        for lane in LANES:
            if depths[lane] < NEARLY_EMPTY:
                stranded = lost(lane, now)
                if count(session, stranded, most=NEARLY_EMPTY) > depths[lane]:
                    found.append(stranded)
    return found


def count(session: Session, stranded: Stranded, most: int | None = None) -> int:
    """Return how many messages are stranded so, counting no further than ``most``."""
    rows = select(Delivery.message_id).distinct().where(*stranded.which).limit(most).subquery()
    return session.execute(select(func.count()).select_from(rows)).scalar_one()


def hint_again(db: Database, queue: Queue, stranded: Stranded, *, passes: int | None = None, progress: Progress | None = None) -> int:
    """Publish and mark what is stranded, a pass at a time, until none is left or ``passes`` are done; return how many messages.

    No lock is held while publishing: a hint too many is harmless. Raises :class:`QueueUnavailable`, :class:`DatabaseUnavailable`;
    what was published until then is marked.
    """
    total = 0
    while passes is None or passes > 0:
        with db.read() as session:
            started = session.execute(select(db_now())).scalar_one()
            chosen = select(Delivery.message_id, Delivery.lane).where(*stranded.which).order_by(stranded.order).limit(PASS)
            found = session.execute(chosen).all()
        done = _publish(db, queue, found, started)
        total += done
        if progress:
            progress(done)
        if len(found) < PASS:
            break
        passes = None if passes is None else passes - 1
    if total:
        log.info("hinted_again", extra={"why": stranded.why, "messages": total})
    return total


def _publish(db: Database, queue: Queue, found: Sequence[Any], started: datetime) -> int:
    by_lane: dict[str, dict[UUID, None]] = defaultdict(dict)
    for message_id, lane in found:
        by_lane[lane][message_id] = None
    failed: QueueUnavailable | None = None
    for lane, messages in by_lane.items():
        try:
            queue.publish(lane, list(messages))
        except QueueUnavailable as error:  # perhaps only this lane's queue: the others must not wait for it
            failed = error
            continue
        with db.write() as session:
            mark_published(session, list(messages), again_before=started)
    if failed:
        raise failed
    return sum(len(messages) for messages in by_lane.values())

