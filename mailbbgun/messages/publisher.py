"""Publishing hints: first the commit, then the hint, then the mark that it was published.

No request waits for the broker. A hint may be lost: the buffer drops it, the broker refuses it, or
this process dies. Its delivery stays unmarked in the database, and a worker's tick or sweep hints it
again.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import ColumnElement, Float, Uuid, or_, select, update

from mailbbgun.core.clock import LONGEST, LONGEST_URGENT, rest_after
from mailbbgun.core.errors import DatabaseUnavailable, QueueUnavailable
from mailbbgun.core.faults import fault
from mailbbgun.core.outages import Outages
from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.sql import chosen, for_each, recordset, rows, unindexed
from mailbbgun.messages.models import DELIVERIES, Delivery
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.base import Queue
from mailbbgun.queues.lanes import HIGH, LANES
from mailbbgun.queues.overflow import Overflow

#: Message ids that may wait, for each lane and delay.
BUFFER = 10_000
#: Message ids of batches that may wait, for each lane. Beyond it the workers' tick hints a batch.
BULK_BUFFER = 200_000
#: Message ids in one publish, at most.
BATCH = 500
#: Seconds between a publish and its mark.
MARK_SECONDS = 0.3
#: Seconds of rest after the first, second … failure in a row.
BACK_OFF = (0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("mailbbgun.publisher")


def mark_published(statements: Statements, published: Mapping[UUID, float], *, again: bool = False) -> None:
    """Mark the due, unclaimed deliveries of messages as hinted.

    ``published``: how many seconds ago each message's hint went to the work queue. Only deliveries
    that were never hinted are marked; with ``again``, also those hinted before that moment. A delivery
    that was claimed and given back since then is due after that moment, and stays unmarked: its hint
    is used up. No other statement may follow.
    """
    given = {"messages": rows([{"id": message_id.hex, "ago": -ago} for message_id, ago in published.items()])}
    statements.last([StatementStep(_mark_published(statements.dialect, again), [given])])


@cache
def _mark_published(dialect: str, again: bool) -> CompiledStatement:
    given = recordset(dialect, "messages", {"id": Uuid(), "ago": Float()})
    published = db_now(given.c.ago)
    stale: ColumnElement[bool] = Delivery.published_at.is_(None)
    if again:
        stale = or_(stale, Delivery.published_at < published)
    unmarked = select(Delivery.id).where(
        unindexed(DELIVERIES.c.status) == PENDING,
        Delivery.lease_owner.is_(None),
        Delivery.next_attempt_at <= published,
        stale,
    )
    # Skip locked rows: they are being claimed, so their hint has arrived.
    found = for_each(dialect, given, DELIVERIES.c.message_id, unmarked.with_for_update(of=Delivery, skip_locked=True))
    rows_of = found.cte("unmarked").prefix_with("MATERIALIZED", dialect="postgresql")
    marked = update(DELIVERIES).where(chosen(dialect, DELIVERIES.c.id, rows_of))
    return CompiledStatement(marked.values(published_at=db_now()))


def publish(database: Database, queue: Queue, lane: str, message_ids: Sequence[UUID], *, again: bool = False) -> None:
    """Publish hints without delay, and mark their deliveries.

    Raises :class:`QueueUnavailable` and :class:`DatabaseUnavailable`.
    """
    started = time.monotonic()
    _hint(queue, lane, message_ids)
    _mark(database, dict.fromkeys(message_ids, started), again=again)


def _mark(database: Database, published: Mapping[UUID, float], *, again: bool = False) -> None:
    """Mark messages whose hints were published at these moments, in monotonic seconds."""
    with database.statements() as statements:
        now = time.monotonic()  # now, since connecting may have taken seconds
        mark_published(statements, {message_id: now - moment for message_id, moment in published.items()}, again=again)


def _hint(queue: Queue, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
    fault("hints.publish")
    queue.publish(lane, message_ids, delay)
    fault("hints.published")


class Publisher:
    """Publishes hints in batches, by a thread for each lane: trouble on one lane holds up no other.

    A thread starts with the first ``offer`` on its lane, so that it belongs to the process that serves,
    not to the one that gunicorn forks from.
    """

    def __init__(self, database: Database, queue: Queue, outages: Outages | None = None) -> None:
        outages = outages or Outages()
        self._lanes = {lane: _Lane(database, queue, lane, outages) for lane in LANES}
        self._overflow = Overflow()

    def count_and_choose_lane(self, counts_as: UUID, priority: int) -> str:
        """Count a message that is handed over now, and return the lane for it.

        ``counts_as``: the id that it is counted under (``caller.counts_as``). A tenant's test mail has
        another than its live mail.
        """
        return self._overflow.count_and_choose_lane(counts_as, priority)

    def offer(self, lane: str, message_id: UUID, delay: int = 0) -> None:
        """Hand over a message whose change is committed. Never waits: a full buffer drops its oldest.

        With ``delay`` (seconds, one of the queue's delays) the hint goes through that delay queue; its
        deliveries must be marked as hinted already.
        """
        self._lanes[lane].offer(message_id, delay)

    def takes(self, lane: str, n: int) -> bool:
        """Return whether :meth:`offer_marked` would publish ``n`` messages of this lane soon."""
        return self._lanes[lane].takes(n)

    def offer_marked(self, lane: str, message_ids: Sequence[UUID]) -> None:
        """Hand over messages whose deliveries were stored as hinted. Never waits.

        The mark costs the database as much as the rest of a message of a batch, so it is stored with
        them. While the queue is away these hints wait here. If this process dies meanwhile, a sweep
        finds that they are lost.
        """
        self._lanes[lane].offer_marked(message_ids)

    def close(self, timeout: float = 5.0) -> None:
        """Publish the waiting hints, for up to ``timeout`` seconds, and stop."""
        until = time.monotonic() + timeout
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(max(0.0, until - time.monotonic()))


class _Lane:
    def __init__(self, database: Database, queue: Queue, lane: str, outages: Outages) -> None:
        self._outages = outages
        self._database = database
        self._queue = queue
        self._lane = lane
        self._longest_rest = LONGEST_URGENT if lane == HIGH else LONGEST
        self._waiting: dict[int, deque[UUID]] = defaultdict(lambda: deque(maxlen=BUFFER))  # by delay
        self._marked: deque[UUID] = deque()  # those that need no mark
        self._away = False  # whether the last work failed
        # When each message was published, in monotonic seconds, oldest first. Only the thread uses this.
        self._unmarked: dict[UUID, float] = {}
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, message_id: UUID, delay: int) -> None:
        with self._lock:
            self._waiting[delay].append(message_id)
            self._start()
        self._bell.set()

    def takes(self, n: int) -> bool:
        return not self._away and len(self._marked) + n <= BULK_BUFFER

    def offer_marked(self, message_ids: Sequence[UUID]) -> None:
        with self._lock:
            self._marked.extend(message_ids)
            self._start()
        self._bell.set()

    def _start(self) -> None:
        """Start the thread if it does not run. The caller has the lock."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"publisher-{self._lane}", daemon=True)
            thread.start()
            self._thread = thread  # not before: if it cannot start, the next offer must try again

    def stop(self) -> None:
        self._stopping.set()
        self._bell.set()

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while True:
            self._bell.wait(MARK_SECONDS if self._unmarked else None)
            self._bell.clear()
            try:
                self._work()
                failures = 0
            except (QueueUnavailable, DatabaseUnavailable) as error:
                self._outages.failed("publish", error)
                failures += 1
            except Exception:  # a bug must not end the lane; the sweep hints what was lost
                log.exception("publisher_failed", extra={"lane": self._lane})
                failures += 1
            self._away = failures > 0
            if failures:
                self._bell.set()
                self._stopping.wait(BACK_OFF[min(failures, len(BACK_OFF)) - 1])
            if self._stopping.is_set():
                return

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            self._publish(*batch)
            self._mark(MARK_SECONDS)
            if len(batch[1]) < BATCH:
                self._stopping.wait(rest_after(time.monotonic() - started, longest=self._longest_rest))
        while marked := self._next_marked():
            self._publish_marked(marked)
            if any(self._waiting.values()):  # single messages do not wait behind a batch
                self._bell.set()
                return
        self._mark(0.0 if self._stopping.is_set() else MARK_SECONDS)

    def _next_batch(self) -> tuple[int, list[UUID]] | None:
        with self._lock:
            for delay, waiting in self._waiting.items():
                if waiting:
                    return delay, [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        return None

    def _next_marked(self) -> list[UUID]:
        with self._lock:
            return [self._marked.popleft() for _ in range(min(BATCH, len(self._marked)))]

    def _publish_marked(self, batch: list[UUID]) -> None:
        """Publish hints of deliveries that say they are hinted. If it fails, they stay here."""
        try:
            self._publish(None, batch)
        except BaseException:
            with self._lock:
                self._marked.extendleft(reversed(batch))
            raise

    def _publish(self, delay: int | None, batch: list[UUID]) -> None:
        """Publish hints, with a delay in seconds or 0. None: at once, and they need no mark."""
        started = time.monotonic()
        _hint(self._queue, self._lane, batch, delay or 0)
        self._outages.worked("queue", "publish")
        if delay == 0:
            self._unmarked |= dict.fromkeys(batch, started)

    def _mark(self, age: float) -> None:
        """Mark the published messages if they fill a batch, or the first was published ``age`` seconds ago.

        By then workers have claimed most of them, and those need no mark.
        """
        now = time.monotonic()
        if self._unmarked and (len(self._unmarked) >= BATCH or now - next(iter(self._unmarked.values())) >= age):
            published, self._unmarked = self._unmarked, {}
            _mark(self._database, published)
            self._outages.worked("database", "publish")
