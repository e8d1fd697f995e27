"""Publishing hints: commit first, then publish, then remember that it was published.

Nothing waits for the broker. What the buffer drops, the broker refuses or a crash forgets stays as it is in the database,
and a worker's tick or sweep hints it again.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from mailbbgun.base.db import Database, db_now, id_rows, ids
from mailbbgun.base.errors import DatabaseUnavailable, QueueUnavailable
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.base import Queue

BUFFER = 10_000  # ids, for each lane and delay
BATCH = 500  # ids a publish
BACK_OFF = (0.5, 1.0, 2.0, 5.0)  # seconds

log = logging.getLogger("mailbbgun.publisher")


def mark_published(session: Session, message_ids: Sequence[UUID], *, again_before: datetime | None = None) -> None:
    """Remember that the due, unclaimed deliveries of these messages have a hint on the work queue.

    Only those never hinted, or, with ``again_before``, also those last hinted before that moment.
    """
    given = ids(session.get_bind().dialect.name, "messages").c
    stale: ColumnElement[bool] = Delivery.published_at.is_(None)
    if again_before is not None:
        stale = or_(stale, Delivery.published_at < again_before)
    unmarked = select(Delivery.id).where(
        Delivery.message_id.in_(select(given.id)),
        Delivery.status == PENDING,
        Delivery.lease_owner.is_(None),
        Delivery.next_attempt_at <= db_now(),
        stale,
    )
    # What is locked is being claimed, which is all that a mark could say.
    chosen = unmarked.with_for_update(skip_locked=True).cte("unmarked").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = (
        update(Delivery)
        .where(Delivery.id.in_(select(chosen.c.id)))
        .values(published_at=db_now())
        .execution_options(synchronize_session=False)
    )
    session.execute(statement, {"messages": id_rows(message_ids)})


class Publisher:
    """A thread that publishes hints in batches, behind whoever offers them.

    The thread starts with the first ``offer``, so it belongs to the process that serves, not to the one gunicorn forked from.
    """

    def __init__(self, database: Database, queue: Queue) -> None:
        self._database = database
        self._queue = queue
        self._waiting: dict[tuple[int, str], deque[UUID]] = defaultdict(lambda: deque(maxlen=BUFFER))
        self._bell = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, lane: str, message_id: UUID, delay: int = 0) -> None:
        """Hand over a message whose change is committed. Never waits; the oldest are dropped when the buffer is full.

        With ``delay`` (seconds, one of the queue's delays) the hint goes through the delay queue; its row must say so already.
        """
        with self._lock:
            self._waiting[delay, lane].append(message_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
                self._thread.start()
        self._bell.set()

    def close(self, timeout: float = 5.0) -> None:
        """Publish what is waiting, for up to ``timeout`` seconds, and stop."""
        self._stopping = True
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while True:
            self._bell.wait()
            self._bell.clear()
            while batch := self._next_batch():
                try:
                    self._publish(*batch)
                    failures = 0
                except (QueueUnavailable, DatabaseUnavailable) as error:
                    wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
                    failures += 1
                    log.warning("publish_failed", extra={"error": str(error), "retry_in": wait})
                    if self._stopping:
                        return
                    time.sleep(wait)
            if self._stopping:
                return

    def _next_batch(self) -> tuple[str, int, list[UUID]] | None:
        with self._lock:
            for (delay, lane), waiting in self._waiting.items():
                if waiting:
                    return lane, delay, [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        return None

    def _publish(self, lane: str, delay: int, batch: list[UUID]) -> None:
        self._queue.publish(lane, batch, delay)
        if not delay:
            with self._database.write() as session:
                mark_published(session, batch)
