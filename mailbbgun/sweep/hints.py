"""Publishes hints again that were never published, got lost, or are overdue.

A pass publishes a thousand at a time. A healthy backlog is never hinted again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, db_now
from mailbbgun.deliver.claim import ISOLATED_FROM
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.publisher import publish
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.base import Queue
from mailbbgun.queues.lanes import LANES

#: Rows in one pass.
PASS = 1000

#: Seconds that the accepting process has to publish a hint, before a worker does.
TICK_GRACE = 1

#: Seconds a delay queue's hint may be late.
OVERDUE = 60

#: Hints on a lane. On a lane with fewer, an old hint that no worker took must be lost.
NEARLY_EMPTY = 1000

#: Rows read for each message to be counted: recipients of a message, on average.
RECIPIENTS = 10

log = logging.getLogger("mailbbgun.sweep")

# A delivery that must be sent in isolation needs no hint: workers look for it themselves.
_IDLE = (Delivery.status == PENDING, Delivery.lease_owner.is_(None), Delivery.crashes < ISOLATED_FROM)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Stranded:
    """Rows of one lane to hint again: a condition, their order, and the reason for the log."""

    why: str
    lane: str
    which: tuple[ColumnElement[bool], ...]
    order: Any
    #: The search for the messages of one pass.
    statement: CompiledStatement


@cache
def unhinted(grace: float = TICK_GRACE) -> list[Stranded]:
    """Return deliveries that have been due for ``grace`` seconds without a confirmed hint.

    Some are new, and their accepting process was killed or had no queue. The others are due again
    after a wait that no delay queue has: a server's own "in so many minutes", a pause, jitter, a
    claim given back, a lost worker. The query does not tell the two apart: any condition beside the
    index would read the whole backlog, each second.
    """
    which = (Delivery.published_at.is_(None), Delivery.next_attempt_at <= db_now(-grace))
    return [_stranded("due", lane, *which, order=Delivery.next_attempt_at) for lane in LANES]


@cache
def scheduled() -> list[Stranded]:
    """Return scheduled deliveries that are due.

    Nobody hints them before they are due, so they need no grace.
    """
    which = (Delivery.published_at.is_(None), Delivery.scheduled == true(), Delivery.next_attempt_at <= db_now())
    return [_stranded("scheduled", lane, *which, order=Delivery.next_attempt_at) for lane in LANES]


@cache
def overdue(seconds: float = OVERDUE) -> list[Stranded]:
    """Return deliveries hinted only through a delay queue whose hint is ``seconds`` late."""
    which = (Delivery.published_at < Delivery.next_attempt_at, Delivery.next_attempt_at <= db_now(-seconds))
    return [_stranded("overdue", lane, *which, order=Delivery.next_attempt_at) for lane in LANES]


def lost(db: Database, queue: Queue, seconds: float = OVERDUE) -> list[Stranded]:
    """Return deliveries that were hinted ``seconds`` ago and whose hints must be lost.

    Their lane is nearly empty, they are still not taken, and they are more than the hints that may
    be left. So a backlog on the queue does not count. A lane's depth is the most hints it may hold,
    so a loss is never reported wrongly. If bunches are not full, a partial loss is found later,
    once the lane has drained. Raises :class:`QueueUnavailable`, :class:`DatabaseUnavailable`.
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
    """Return how many messages are stranded.

    It counts no further than ``most``, and reads no more than ten rows for each of these.
    """
    rows = select(Delivery.message_id).where(*stranded.which)
    if most is not None:
        # In the order of the partial index: without it PostgreSQL may read all messages there ever
        # were to find the first few.
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
    """Publish and mark the stranded messages; return how many there were.

    Each lane is done in passes, until none is left, ``passes`` are done, or ``stopped`` returns
    True. No lock is held while publishing, because a hint too many is harmless. A lane whose queue
    fails does not hold up the others. Raises :class:`QueueUnavailable`,
    :class:`DatabaseUnavailable` in the end; what was published until then is marked.
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
        rows = db.find(stranded.statement, {})
        messages = list(dict.fromkeys(message_id for (message_id,) in rows))
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
    where = (*_IDLE, Delivery.lane == lane, *which)
    chosen = select(Delivery.message_id).where(*where).order_by(order).limit(PASS)
    return Stranded(why, lane, where, order, CompiledStatement(chosen, of_all_tenants=True))
