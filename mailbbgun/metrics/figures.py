"""Figures that no process counts: of the database, the queue, the registered workers and the disk."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mailbbgun.attachments.models import Blob
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.counters.families import Family, Type
from mailbbgun.deliver import workers
from mailbbgun.oversight import backlog
from mailbbgun.queues import lanes
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import repo as accounts

#: Seconds that a scrape waits for the figures.
WAIT_SECONDS = 4.0
#: Seconds for which figures are shown again without a new look; at least this many times what the look took.
FRESH_SECONDS, REST = 2.0, 10
#: Seconds of a look that does not end, for which the figures of the last one are shown.
STALE_SECONDS = 120.0
#: Hosts of workers that have labels of their own.
MOST_HOSTS = 100


def _gauge(name: str, help_: str, *labels: str) -> Family:
    return Family(Type.GAUGE, f"mailbbgun_{name}", help_, labels)


DATABASE_UP = _gauge("database_up", "1 if the database answered.")
QUEUE_UP = _gauge("queue_up", "1 if the queue answered.")
HINTS = _gauge("queue_hints", "Hints on the queue, by lane; with RabbitMQ about.", "lane")
DUE = _gauge("due_deliveries", "Deliveries that are due and not claimed, by lane.", "lane")
OLDEST = _gauge("oldest_due_seconds", "For how long the first delivery of a lane has been due; 0 if none is.", "lane")
PENDING = _gauge("pending_deliveries", "Pending deliveries: due, later, held (tenant suspended), claimed.", "state")
UNPUBLISHED = _gauge("unpublished_deliveries", "Deliveries that are due and have no hint on the queue yet.")
WORKERS = _gauge("workers", "Registered worker processes by host, alive or silent for 30 seconds.", "host", "state")
HEARTBEAT = _gauge("worker_heartbeat_age_seconds", "Since when no worker process of a host has reported.", "host")
PAUSED = _gauge("paused_account_workers", "Worker processes that have paused an SMTP account.", "account", "account_id")
DATABASE_BYTES = _gauge("database_bytes", "Size of the database on its disk.")
BLOBS = _gauge("blobs", "Files in the store of files.")
BLOB_BYTES = _gauge("blob_bytes", "Size of all files in the store of files.")
SPOOL_BYTES = _gauge("spool_bytes", "Size of the spool folder of this machine.")
DISK_FREE = _gauge("disk_free_bytes", "Free space of the disk of VAR.")
DISK_SIZE = _gauge("disk_size_bytes", "Size of the disk of VAR.")

FIGURES = (
    *(DATABASE_UP, QUEUE_UP, HINTS, DUE, OLDEST, PENDING, UNPUBLISHED, WORKERS, HEARTBEAT, PAUSED),
    *(DATABASE_BYTES, BLOBS, BLOB_BYTES, SPOOL_BYTES, DISK_FREE, DISK_SIZE),
)

Rows = Mapping[tuple[str, ...], float]
Found = dict[Family, Rows]


class Collector:
    """Looks at database, queue and disk for scrapes. Thread-safe."""

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self._services, self._clock = services, clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="figures")
        self._asked: Future[Found] | None = None
        self._asked_at = self._answered_at = self._fresh_until = 0.0
        self._last: Found = {}

    def found(self) -> Found:
        """Return the figures, a few seconds old at most. What does not answer has none; its ``up`` is 0."""
        asked = self._asked
        if asked is None or (asked.done() and self._clock() >= self._fresh_until):
            # Two scrapes at once may both come here: the second look then waits for the first.
            self._asked_at = self._clock()
            asked = self._asked = self._thread.submit(self._look)
        wait([asked], WAIT_SECONDS)
        if asked.done():
            return {**asked.result(), **self._of_disk()}
        # It counts a long backlog, or the database hangs. The last figures stand for a while.
        last = self._last if self._clock() - self._asked_at < STALE_SECONDS else {}
        return {**last, DATABASE_UP: {(): float(self._answered_at >= self._asked_at)}, **self._of_disk()}

    def close(self) -> None:
        """End the thread, without waiting for a server that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> Found:
        began = self._clock()
        found: Found = {}
        try:
            with self._services.db.read() as session:
                session.scalar(select(1))
                self._answered_at = self._clock()
                found |= _of_database(session, self._services)
            found[DATABASE_UP] = {(): 1.0}
        except (MailBBGunError, DBAPIError):  # the latter if its tables are not ours, or of another version
            # It may have answered, and then given up counting a very long backlog.
            found = {DATABASE_UP: {(): float(self._answered_at >= self._asked_at)}}
        try:
            found[HINTS] = {(lanes.shown(lane),): float(n) for lane, n in self._services.queue.depth().items()}
            found[QUEUE_UP] = {(): 1.0}
        except MailBBGunError:
            found[QUEUE_UP] = {(): 0.0}
        now, self._last = self._clock(), found
        self._fresh_until = now + max(FRESH_SECONDS, REST * (now - began))
        return found

    def _of_disk(self) -> Found:
        settings = self._services.settings
        disk = shutil.disk_usage(settings.var)
        spooled = sum(_sizes(settings.spool_folder))
        return {SPOOL_BYTES: {(): spooled}, DISK_FREE: {(): disk.free}, DISK_SIZE: {(): disk.total}}


def _of_database(session: Session, services: Services) -> Found:
    found = backlog.look(session)
    files, size = session.execute(select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)).one()
    due = {lanes.shown(lane): found.lanes.get(lane, backlog.WaitingDeliveries(0, None)) for lane in lanes.LANES}
    pending = {"due": found.due.deliveries, "later": found.later, "held": found.held}
    pending["claimed"] = sum(one.deliveries for one in found.claimed.values())
    paused = accounts.paused_by_workers(session, services.settings.METRICS_ACCOUNTS)
    return {
        DUE: {(lane,): float(one.deliveries) for lane, one in due.items()},
        OLDEST: {(lane,): one.oldest_seconds or 0.0 for lane, one in due.items()},
        PENDING: {(state,): float(n) for state, n in pending.items()},
        UNPUBLISHED: {(): float(found.unpublished.deliveries)},
        **_of_workers(session),
        PAUSED: {(name, str(one)): float(n) for one, name, n in paused},
        DATABASE_BYTES: {(): _size(session, services)},
        BLOBS: {(): float(files)},
        BLOB_BYTES: {(): float(size)},
    }


def _of_workers(session: Session) -> Found:
    counts: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    for seen, age in workers.registered_with_age(session):
        host = seen.worker.host
        if (host, "alive") not in counts:
            if len(counts) >= 2 * MOST_HOSTS:
                continue  # they come latest report first
            counts |= {(host, "alive"): 0.0, (host, "silent"): 0.0}
        counts[host, "alive" if seen.alive else "silent"] += 1
        ages[(host,)] = min(age, ages.get((host,), age))
    return {WORKERS: counts, HEARTBEAT: ages}


def _size(session: Session, services: Services) -> float:
    if services.db.dialect == "postgresql":
        return float(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    path = services.db.url.database or ""
    return float(sum(file.stat().st_size for file in map(Path, (path, f"{path}-wal")) if file.exists()))


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each file below a folder. Files come and go meanwhile."""
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield os.stat(os.path.join(inside, name)).st_size


def shown(found: Mapping[Family, Any]) -> Iterator[tuple[Family, Any]]:
    """Yield each family with its rows; those that nobody could say are empty."""
    for family in FIGURES:
        yield family, found.get(family, {})
