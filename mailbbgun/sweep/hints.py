"""Hints that were never given, got lost, or are overdue: given again, a thousand at a time, and
never onto a healthy backlog.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.database.db import Database, db_now
from mailbbgun.deliver.claim import ISOLATED_FROM
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.publisher import publish
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.base import Queue
from mailbbgun.queues.lanes import LANES

PASS = 1000  # rows
TICK_GRACE = 1  # seconds the accepting process has to hint what it accepted, before a worker does
OVERDUE = 60  # seconds a delay queue's hint may be late
NEARLY_EMPTY = 1000  # hints on a lane; if it can hold no more, an old hint that was not taken must be lost
RECIPIENTS = 10  # of a message, on average, that are looked through for counting messages

log = logging.getLogger("mailbbgun.sweep")

# What must be sent alone needs no hint: workers look for it themselves.
_IDLE = (Delivery.status == PENDING, Delivery.lease_owner.is_(None), Delivery.crashes < ISOLATED_FROM)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Stranded:
    """Rows of one lane to hint again: which, in what order, and who says so in the log."""

    why: str
    lane: str
    which: tuple[ColumnElement[bool], ...]
    order: Any


def unhinted(grace: float = TICK_GRACE) -> list[Stranded]:
    """Due for ``grace`` seconds, and no hint was confirmed.

    New ones whose accepting process was killed or had no queue; and, as the ordinary way of many
    retries, those due again by a wait that no delay queue has: a server's own "in so many minutes",
    a pause, jitter, a claim given back, a lost worker. Not asked which of the two each is: whatever
    is asked beside the index is looked for through the whole backlog, each second.
    """
    which = (Delivery.published_at.is_(None), Delivery.next_attempt_at <= db_now(-grace))
    return [_stranded("due", lane, *which, order=Delivery.next_attempt_at) for lane in LANES]


def overdue(seconds: float = OVERDUE) -> list[Stranded]:
    """Hinted through a delay queue only, and that hint is ``seconds`` late."""
    which = (Delivery.published_at < Delivery.next_attempt_at, Delivery.next_attempt_at <= db_now(-seconds))
    return [_stranded("overdue", lane, *which, order=Delivery.next_attempt_at) for lane in LANES]


def lost(db: Database, queue: Queue, seconds: float = OVERDUE) -> list[Stranded]:
    """Hinted ``seconds`` ago onto a lane that is nearly empty by now, and still not taken, although
    more than the hints that can be left.

    A backlog that waits on the queue is none. What a lane holds is known as the most that it may
    hold, and a loss only if even that is less than the rows that wait. So where bunches are not
    full, the loss of a part is found later, once the lane has drained; never wrongly. Raises
    :class:`QueueUnavailable`, :class:`DatabaseUnavailable`.
    """
    depths = queue.depth()
    found = []
    with db.read() as session:
        before = session.execute(select(db_now(-seconds))).scalar_one()
        for lane in LANES:
            if depths[lane] < NEARLY_EMPTY:
                which = (Delivery.published_at >= Delivery.next_attempt_at, Delivery.published_at < before)
                stranded = _stranded("lost", lane, *which, order=Delivery.published_at)
                if count(session, stranded, most=NEARLY_EMPTY) > depths[lane]:
                    found.append(stranded)
    return found


def count(session: Session, stranded: Stranded, most: int | None = None) -> int:
    """Return how many messages are stranded so, counting no further than ``most``, nor than ten
    recipients for each of these.
    """
    rows = select(Delivery.message_id).where(*stranded.which)
    if most is not None:
        # In the order of the partial index: left to itself PostgreSQL may look for the first few
        # along all messages there ever were.
        rows = rows.order_by(stranded.order).limit(most * RECIPIENTS)
    messages = select(rows.subquery().c.message_id).distinct().limit(most).subquery()
    return session.execute(select(func.count()).select_from(messages)).scalar_one()


def hint_again(
    db: Database,
    queue: Queue,
    found: Sequence[Stranded],
    *,
    passes: int | None = None,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Publish and mark what is stranded, on each lane a pass at a time until none is left or
    ``passes`` are done, or between two of them ``stopped`` says so; return how many messages.

    No lock is held while publishing: a hint too many is harmless. A lane whose queue is in trouble
    holds up no other. Raises :class:`QueueUnavailable`, :class:`DatabaseUnavailable` in the end;
    what was published until then is marked.
    """
    total, failed = 0, None
    for stranded in found:
        try:
            done = _hint_lane(db, queue, stranded, passes, progress, stopped)
        except QueueUnavailable as error:
            failed = error
            continue
        if done:
            log.info("hinted_again", extra={"why": stranded.why, "lane": stranded.lane, "messages": done})
        total += done
    if failed:
        raise failed
    return total


def _hint_lane(
    db: Database,
    queue: Queue,
    stranded: Stranded,
    passes: int | None,
    progress: Progress | None,
    stopped: Callable[[], bool],
) -> int:
    total = 0
    while (passes is None or passes > 0) and not stopped():
        with db.read() as session:
            chosen = select(Delivery.message_id).where(*stranded.which).order_by(stranded.order).limit(PASS)
            rows = session.execute(chosen).scalars().all()
        messages = list(dict.fromkeys(rows))
        if messages:
            publish(db, queue, stranded.lane, messages, again=True)
        total += len(messages)
        if progress:
            progress(len(messages))
        if len(rows) < PASS:
            break
        passes = None if passes is None else passes - 1
    return total


def _stranded(why: str, lane: str, *which: ColumnElement[bool], order: Any) -> Stranded:
    return Stranded(why, lane, (*_IDLE, Delivery.lane == lane, *which), order)
