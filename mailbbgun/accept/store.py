"""Storing what was accepted. What several requests bring at once goes into one commit: a commit costs the same for one and for fifty."""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.caller import counts_as
from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import MailBBGunError, QuotaExceeded
from mailbbgun.core.faults import fault
from mailbbgun.database import idempotency
from mailbbgun.database.db import Database, wait_at_most
from mailbbgun.database.idempotency import PATIENCE, KeyClaim
from mailbbgun.events import record
from mailbbgun.limits import quota
from mailbbgun.messages import repo

MESSAGES, BYTES = 50, 4_000_000  # of one commit
LARGE = 1_000_000  # bytes; larger messages are written by their own requests, and hold up nobody

PATIENCE_FOR_ALL = 0.2  # seconds to wait for a commit elsewhere with the same key, or of a tenant that has a quota: of all who share a commit

log = logging.getLogger("mailbbgun.accept")

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A message as it is stored, and what is answered for it."""

    message: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    response: Answer
    per_day: int | None = None  # how many messages its tenant may hand over in a day; None: as many as it likes

    @property
    def counts_as(self) -> UUID:
        """The id under which it is counted."""
        return counts_as(self.message["tenant_id"], test=self.message["test"])


class PendingWrite:
    """A message on its way into the database. It begins with :meth:`tell` or :meth:`result`."""

    __slots__ = ("_bell", "_store", "_tell", "begun", "claim", "committed", "refused", "rows", "taken", "then", "tried")

    def __init__(self, store: "Store", rows: Rows, claim: KeyClaim | None, then: Callable[[], None]) -> None:
        self.rows = rows
        self.claim = claim
        self.then = then
        self.begun = False
        self.tried = False  # the common commit has ended for it, or there is none
        self.committed = False
        self.taken = False  # somebody else has its key
        self.refused: QuotaExceeded | None = None
        self._store = store
        self._tell: Callable[[], None] | None = None
        self._bell = threading.Lock()  # rings by its release: an Event costs ten times as much
        self._bell.acquire()

    @property
    def stored(self) -> bool:
        """Whether it is in, so that :meth:`result` has nothing left to do."""
        return self.committed and not self.taken and self.refused is None

    def tell(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, when :meth:`result` has no common commit to wait for any more; at once if that is so already."""
        self._store.begin(self)
        with self._store.lock:
            if not self.tried:
                self._tell = callback
                return
        callback()

    def result(self) -> Answer | None:
        """Wait until it is committed; return an earlier request's answer instead if that had the same key.

        Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`, or :class:`DatabaseUnavailable` when it is not stored for sure.
        """
        if not self.tried:
            self._store.begin(self)
            self._bell.acquire()
        return None if self.stored else self._store.settle(self)

    def ended(self) -> None:
        """Wake the waiting request."""
        with self._store.lock:
            self.tried = True
        self._bell.release()
        if self._tell:
            self._tell()


class Store:
    """Writes for one process: a thread of its own takes all that waits into one commit."""

    def __init__(self, database: Database, remembered: int) -> None:
        """Keep idempotency keys for ``remembered`` seconds."""
        self.lock = threading.Lock()
        self._database = database
        self._remembered = remembered
        self._used_up: dict[
            UUID, tuple[int, float]
        ] = {}  # by what they are counted as: the quota, and the monotonic second of midnight
        self._waiting: queue.SimpleQueue[PendingWrite | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def pending(self, rows: Rows, claim: KeyClaim | None, then: Callable[[], None]) -> PendingWrite:
        """Return a message that is to be stored. ``then`` is called when it is committed, by whichever thread finds out.

        Raises :class:`QuotaExceeded` if it is known already that its tenant's quota is used up, and no earlier answer could be asked for.
        """
        if rows.per_day is not None and claim is None:
            per_day, midnight = self._used_up.get(rows.counts_as, (-1, 0.0))
            if rows.per_day <= per_day and (left := midnight - time.monotonic()) > 0:
                raise _exceeded(rows.per_day, left)
        return PendingWrite(self, rows, claim, then)

    def begin(self, pending: PendingWrite) -> None:
        """Begin to store it, once, unless it is so large, or so late, that who asks for the result has to."""
        if pending.begun:
            return
        pending.begun = True
        if pending.rows.message["size"] > LARGE or not self._enqueue(pending):
            pending.ended()

    def settle(self, pending: PendingWrite) -> Answer | None:
        """Do for one what no common commit has done for it. See :meth:`PendingWrite.result`."""
        if pending.rows.message["size"] > LARGE:
            self._write([pending], PATIENCE)
        if not pending.committed:
            self._by_itself(pending)
        if pending.refused is not None:
            raise pending.refused
        return self._replayed(pending) if pending.taken else None

    def close(self, timeout: float = 5.0) -> None:
        """Store what waits, for up to ``timeout`` seconds, and stop. Who comes later has to write by itself."""
        with self.lock:
            self._closed = True
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout)

    def _enqueue(self, pending: PendingWrite) -> bool:
        with self.lock:
            if self._closed:
                return False
            if self._thread is None:  # not made with the store: gunicorn forks after that
                thread = threading.Thread(target=self._run, name="store", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # this process may have no more threads, for now
                    log.warning("store_not_started", extra={"error": str(error)})
                    return False
                self._thread = thread
            self._waiting.put(pending)
            return True

    def _run(self) -> None:
        while first := self._waiting.get():
            batch, alone = self._batch(first)
            for pending in alone:
                pending.ended()
            started = time.monotonic()
            self._write(batch, PATIENCE_FOR_ALL)
            took = time.monotonic() - started
            for pending in batch:
                pending.ended()
            time.sleep(rest_after(took, times=1))  # clients wait for this one

    def _batch(self, first: PendingWrite) -> tuple[list[PendingWrite], list[PendingWrite]]:
        """Take what waits: what goes into one commit, and what has to see what one of these with the same key will have answered."""
        batch, alone, size, keys = [first], [], first.rows.message["size"], {first.claim.key} if first.claim else set()
        while len(batch) < MESSAGES and size < BYTES and not self._waiting.empty():
            pending = self._waiting.get()
            if pending is None:
                self._waiting.put(None)
                break
            if pending.claim and pending.claim.key in keys:
                alone.append(pending)
                continue
            if pending.claim:
                keys.add(pending.claim.key)
            batch.append(pending)
            size += pending.rows.message["size"]
        return batch, alone

    def _write(self, batch: Sequence[PendingWrite], patience: float) -> None:
        try:
            fault("accept.commit")
            self._commit(batch, patience)
            fault("accept.committed")
        except Exception as error:  # noqa: BLE001 - whose fault it was, and whether it was committed all the same, each finds out for itself
            why = str(error) if isinstance(error, MailBBGunError) else type(error).__name__
            log.info("commit_shared_failed", extra={"messages": len(batch), "error": why})
            return
        for pending in batch:
            self._committed(pending)

    def _commit(self, batch: Sequence[PendingWrite], patience: float) -> None:
        if any(map(_asks_first, batch)):
            with self._database.write() as session:
                self._insert(session, batch, patience)
        else:
            record.commit_accepted(
                self._database, [(pending.rows.message, pending.rows.deliveries) for pending in batch]
            )

    def _committed(self, pending: PendingWrite) -> None:
        pending.committed = True
        if pending.refused is not None:
            self._used_up[pending.rows.counts_as] = (
                pending.refused.limit,
                time.monotonic() + (pending.refused.retry_after or 0),
            )
        if not pending.stored:
            return
        try:
            pending.then()
        except Exception:  # it is stored: who waits for that must be told, and others must be stored
            log.exception("after_commit_failed", extra=_about(pending))

    def _insert(self, session: Session, batch: Sequence[PendingWrite], patience: float) -> None:
        if any(map(_asks_first, batch)):
            wait_at_most(session, patience)
        claiming = {pending.claim: pending for pending in batch if pending.claim}
        wanted = {claim: (pending.rows.message["id"], pending.rows.response) for claim, pending in claiming.items()}
        for claim in wanted.keys() - idempotency.take(session, wanted, self._remembered):
            claiming[claim].taken = True
        left = [pending for pending in batch if not pending.taken]
        if refused := _refused(session, left):
            idempotency.give_back(session, [pending.claim for pending in refused if pending.claim])
            left = [pending for pending in left if pending.refused is None]
        record.accepted(session, [(pending.rows.message, pending.rows.deliveries) for pending in left])

    def _by_itself(self, pending: PendingWrite) -> None:
        # The connection may have broken after the commit: look before trying again, and try only once.
        pending.taken, pending.refused = False, None
        if not self._is_stored(pending):
            try:
                with self._database.write() as session:
                    self._insert(session, [pending], PATIENCE)
            except IntegrityError:
                if not self._is_stored(pending):  # the first commit came through after the look
                    raise
        self._committed(pending)

    def _replayed(self, pending: PendingWrite) -> Answer:
        assert pending.claim is not None  # only a key can be taken
        with self._database.read() as session:
            return idempotency.replay(session, pending.claim)

    def _is_stored(self, pending: PendingWrite) -> bool:
        with self._database.read() as session:
            return repo.is_stored(session, pending.rows.message["id"])


def _about(pending: PendingWrite) -> Mapping[str, Any]:
    """Return what a log line about it tells."""
    message = pending.rows.message
    return {"message_id": message["id"], "tenant_id": message["tenant_id"], "key_id": message.get("key_id")}


def _asks_first(pending: PendingWrite) -> bool:
    """Say whether something else must be written before it is known that it may be stored."""
    return pending.claim is not None or pending.rows.per_day is not None


def _refused(session: Session, batch: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Count what has a quota, mark what has no room in it, and return that. First come, first served."""
    limited = [pending for pending in batch if pending.rows.per_day is not None]
    counts = Counter(pending.rows.counts_as for pending in limited)
    per_day = {
        pending.rows.counts_as: pending.rows.per_day or 0 for pending in limited
    }  # the last one's: it is the newest
    rooms = quota.take(session, {counted: quota.Want(n, per_day[counted]) for counted, n in counts.items()})
    seen: Counter[UUID] = Counter()
    refused = []
    for pending in limited:
        counted = pending.rows.counts_as
        seen[counted] += 1
        if seen[counted] > (room := rooms[counted]).n:
            pending.refused = _exceeded(per_day[counted], room.day_left)
            refused.append(pending)
    return refused


def _exceeded(per_day: int, seconds: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"More than {per_day} messages today (UTC).", limit=per_day, retry_after=max(math.ceil(seconds), 1)
    )
