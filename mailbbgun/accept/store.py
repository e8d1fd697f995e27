"""Storing accepted messages. Messages of several requests share a commit.

A commit costs the same for one message and for fifty.
"""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.accept.pending import (
    ALONE,
    ANSWERED,
    NEW,
    OVER_QUOTA,
    STORED,
    WAITING,
    Answer,
    PendingWrite,
    Rows,
    State,
    claims_of,
    contents,
    held_events,
    key_ids,
    log_fields,
    new_rows,
    with_suppressed,
)
from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import MailBBGunError, QuotaExceeded
from mailbbgun.core.faults import fault
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import ACCEPTED, RECEIVED
from mailbbgun.database import idempotency
from mailbbgun.database.db import Database, dialect_of, wait_at_most
from mailbbgun.database.idempotency import PATIENCE, KeyClaim
from mailbbgun.events import log as events_log
from mailbbgun.limits import duplicates, quota
from mailbbgun.messages import repo, storing
from mailbbgun.queues import lanes
from mailbbgun.suppressions.check import TenantRecipient, suppressed

#: Messages and bytes of one shared commit, at most.
MESSAGES, BYTES = 50, 4_000_000
#: Bytes. A larger message has a commit of its own, in its request's thread, so that it holds up no other.
LARGE = 1_000_000
#: Seconds that a shared commit waits for locks: of another process's commit with the same key, or of a
#: tenant with a quota. A message that is written alone waits for PATIENCE.
PATIENCE_FOR_ALL = 0.2

log = logging.getLogger("mailbbgun.accept")


class _NotStored(NamedTuple):
    """The messages that a commit did not store: an earlier request had their key, or their quota is used up."""

    answered: Collection[PendingWrite] = ()
    over_quota: Mapping[PendingWrite, QuotaExceeded] = MappingProxyType({})

    def state(self, pending: PendingWrite) -> tuple[State, QuotaExceeded | None]:
        """Return a message's state after that commit, and the error if it is over quota."""
        if self is _ALL_STORED:
            return _STORED
        if pending in self.over_quota:
            return OVER_QUOTA, self.over_quota[pending]
        return (ANSWERED, None) if pending in self.answered else _STORED

    def stored(self, batch: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
        """Return the messages of a commit that it stored."""
        return batch if self is _ALL_STORED else [one for one in batch if self.state(one) is _STORED]


_STORED = (STORED, None)
_ALL_STORED = _NotStored()


class Store:
    """Writes for one process: its thread commits all waiting messages together."""

    def __init__(self, database: Database, remembered: int, counters: Counters | None = None) -> None:
        """Keep idempotency keys for ``remembered`` seconds. ``counters`` count what is stored."""
        self._counters = counters or Counters()
        self.lock = threading.Lock()
        self._database = database
        self.remembered = remembered
        # By the id that a quota counts under: the quota that is used up, and midnight in monotonic seconds.
        self._used_up: dict[UUID, tuple[int, float]] = {}
        self._waiting: queue.SimpleQueue[PendingWrite | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def pending(self, rows: Rows, key_claim: KeyClaim | None, after_commit: Callable[[], None]) -> PendingWrite:
        """Return a message that is to be stored. ``after_commit`` is called, by any thread, once it is.

        Raises :class:`QuotaExceeded` if this process knows that the tenant's quota is used up, and the
        request has no key or guard by which there might be an answer already.
        """
        if rows.per_day is not None and key_claim is None and rows.guard is None:
            per_day, midnight = self._used_up.get(rows.counts_as, (-1, 0.0))
            if rows.per_day <= per_day and (left := midnight - time.monotonic()) > 0:
                raise _exceeded(rows.per_day, left)
        return PendingWrite(self, rows, key_claim, after_commit)

    def begin(self, pending: PendingWrite) -> None:
        """Begin to store a message; do nothing if that has begun.

        A large message, or any after :meth:`close`, is stored by the thread that asks for the result.
        """
        if pending.state is not NEW:
            return
        pending.move(WAITING)
        if pending.rows.stored_bytes > LARGE or not self._enqueue(pending):
            pending.wake(ALONE)

    def settle(self, pending: PendingWrite) -> Answer | None:
        """Finish a write that no shared commit has stored. See :meth:`PendingWrite.result`."""
        if pending.state is ALONE:
            not_stored = self._write([pending], PATIENCE) if pending.rows.stored_bytes > LARGE else None
            pending.move(*(not_stored or self._write_alone(pending)).state(pending))
        if pending.refusal is not None:
            raise pending.refusal
        return (pending.duplicate or self._replayed(pending)) if pending.state is ANSWERED else None

    def earlier(self, key_claim: KeyClaim) -> idempotency.Earlier | None:
        """Return what an earlier request with this key asked for and was answered, if that is still remembered."""
        with self._database.read() as session:
            return idempotency.earlier(session, key_claim, self.remembered)

    def close(self, timeout: float = 5.0) -> None:
        """Store the waiting messages, for up to ``timeout`` seconds, and stop.

        From now on each request writes its own message.
        """
        with self.lock:
            self._closed = True
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout)

    def _enqueue(self, pending: PendingWrite) -> bool:
        with self.lock:
            if self._closed:
                return False
            if self._thread is None:  # not started with the store: gunicorn forks after that
                thread = threading.Thread(target=self._run, name="store", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads for this process at the moment
                    log.warning("store_not_started", extra={"error": str(error)})
                    return False
                self._thread = thread
            self._waiting.put(pending)
            return True

    def _run(self) -> None:
        while first := self._waiting.get():
            batch, alone = self._batch(first)
            for pending in alone:
                pending.wake(ALONE)
            started = time.monotonic()
            not_stored = self._write(batch, PATIENCE_FOR_ALL)
            took = time.monotonic() - started
            for pending in batch:
                if not_stored is None:
                    pending.wake(ALONE)
                else:
                    pending.wake(*not_stored.state(pending))
            time.sleep(rest_after(took, times=1))  # short, since clients wait for the next commit

    def _batch(self, first: PendingWrite) -> tuple[list[PendingWrite], list[PendingWrite]]:
        """Take waiting messages: those for one commit, and those whose key or mail one of the former has claimed.

        The latter must see the answer that is committed with that claim.
        """
        batch, alone, size, claimed = [first], [], first.rows.stored_bytes, set(first.claims)
        while len(batch) < MESSAGES and size < BYTES and not self._waiting.empty():
            pending = self._waiting.get()
            if pending is None:
                self._waiting.put(None)
                break
            if pending.key_claim or pending.rows.guard:
                if not claimed.isdisjoint(pending.claims):
                    alone.append(pending)
                    continue
                claimed.update(pending.claims)
            batch.append(pending)
            size += pending.rows.stored_bytes
        return batch, alone

    def _write(self, batch: Sequence[PendingWrite], patience: float) -> _NotStored | None:
        """Commit messages; return those not stored. None: it is not known whether they are committed."""
        try:
            fault("accept.commit")
            not_stored = self._commit(batch, patience)
            fault("accept.committed")
        except Exception as error:  # noqa: BLE001 - each request finds out by itself whether it is stored
            why = str(error) if isinstance(error, MailBBGunError) else type(error).__name__
            log.info("commit_shared_failed", extra={"messages": len(batch), "error": why})
            return None
        self._committed(batch, not_stored)
        return not_stored

    def _commit(self, batch: Sequence[PendingWrite], patience: float) -> _NotStored:
        self._end_suppressed(batch)
        if any(map(_needs_quota_or_guard, batch)):
            with self._database.write() as session:
                return self._insert(session, batch, patience)
        # Without a Session, which would double the cost.
        new, dialect, claims = new_rows(batch), self._database.dialect, claims_of(batch)
        events = events_log.accepted(new)
        keys = idempotency.steps(dialect, {claim: claimed for claim, (_, claimed) in claims.items()}, patience)
        stored = storing.steps(dialect, new, contents(batch), events_log.appending(dialect, events))
        try:
            self._database.commit([*keys, *stored])
        except IntegrityError:  # nothing is stored: an earlier request had one of the keys
            if not claims:
                raise
            with self._database.write() as session:
                return self._insert(session, batch, patience)
        events_log.print_lines(events, key_ids(new, events))
        return _ALL_STORED

    def _end_suppressed(self, batch: Sequence[PendingWrite]) -> None:
        """End the deliveries to suppressed recipients before they are stored, for tenants that have any."""
        asked = [pending for pending in batch if pending.rows.has_suppressions]
        if not asked:
            return
        found = suppressed(self._database, [one for pending in asked for one in _recipients(pending.rows)])
        for pending in asked:
            pending.rows = with_suppressed(
                pending.rows, {one.address for one in _recipients(pending.rows) if one in found}
            )

    def _committed(self, batch: Sequence[PendingWrite], not_stored: _NotStored) -> None:
        """Call ``after_commit`` of the stored messages, and remember which quotas are used up."""
        for pending, refusal in not_stored.over_quota.items():
            self._used_up[pending.rows.counts_as] = refusal.limit, time.monotonic() + (refusal.retry_after or 0)
        stored = not_stored.stored(batch)
        for lane, n in Counter([pending.rows.deliveries[0]["lane"] for pending in stored]).items():
            self._counters.add(ACCEPTED, lanes.shown(lane), n=n)
        if n := sum(bool(pending.rows.message.get("received")) for pending in stored):
            self._counters.add(RECEIVED, n=n)
        for pending in stored:
            try:
                pending.after_commit()
            except Exception:  # the message is stored, and its request must get its answer all the same
                log.exception("after_commit_failed", extra=log_fields(pending))

    def _insert(self, session: Session, batch: Sequence[PendingWrite], patience: float) -> _NotStored:
        if claims_of(batch) or any(map(_needs_quota_or_guard, batch)):
            wait_at_most(session, patience)
        claims = claims_of(batch)
        ours = idempotency.take(session, {claim: wanted for claim, (_, wanted) in claims.items()}, self.remembered)
        answered = {pending for claim, (pending, _) in claims.items() if claim not in ours}
        left = [pending for pending in batch if pending not in answered]
        if any(pending.rows.guard for pending in left):
            answered |= _duplicates(session, left)
            left = [pending for pending in left if pending not in answered]
        if over_quota := _over_quota(session, left):
            idempotency.give_back(session, [pending.key_claim for pending in over_quota if pending.key_claim])
            duplicates.give_back(session, [pending.rows.guard for pending in over_quota if pending.rows.guard])
            left = [pending for pending in left if pending not in over_quota]
        if left:
            new, dialect = new_rows(left), dialect_of(session)
            events = events_log.accepted(new) + [event for pending in left for event in held_events(pending.rows)]
            for compiled, given in storing.steps(dialect, new, contents(left), events_log.appending(dialect, events)):
                session.execute(compiled.statement, given)
            events_log.log_after_commit(session, events, key_ids(new, events))
        return _NotStored(answered, over_quota)

    def _write_alone(self, pending: PendingWrite) -> _NotStored:
        # The connection may have broken after the commit: look first, then try again once.
        not_stored = _ALL_STORED
        if not self._is_stored(pending):
            self._end_suppressed([pending])
            try:
                with self._database.write() as session:
                    not_stored = self._insert(session, [pending], PATIENCE)
            except IntegrityError:
                if not self._is_stored(pending):  # else the first commit came through after the look
                    raise
        self._committed([pending], not_stored)
        return not_stored

    def _replayed(self, pending: PendingWrite) -> Answer:
        assert pending.key_claim is not None  # else it would not be ANSWERED
        with self._database.read() as session:
            return idempotency.replay(session, pending.key_claim)

    def _is_stored(self, pending: PendingWrite) -> bool:
        with self._database.read() as session:
            return repo.is_stored(session, pending.rows.message["id"])


def _recipients(rows: Rows) -> list[TenantRecipient]:
    message = rows.message
    return [TenantRecipient(message["tenant_id"], message["test"], one["address"]) for one in rows.deliveries]


def _needs_quota_or_guard(pending: PendingWrite) -> bool:
    """Say whether a guard or a quota must be written first, to know whether the message may be stored."""
    return pending.rows.per_day is not None or pending.rows.guard is not None


def _duplicates(session: Session, batch: Sequence[PendingWrite]) -> set[PendingWrite]:
    """Claim the mail of keys that guard against duplicates; return the duplicates that are not to be stored."""
    guarding = {pending.rows.guard: pending for pending in batch if pending.rows.guard}
    wanted = {guard: (pending.rows.message["id"], pending.rows.response) for guard, pending in guarding.items()}
    found = duplicates.take(session, wanted, repo.ended_unsent)
    for guard, first in found.items():
        answer = guarding[guard].repeats(*first)
        if key_claim := guarding[guard].key_claim:
            idempotency.answer(session, key_claim, answer)
    return {guarding[guard] for guard in found if not guard.holds}


def _over_quota(session: Session, batch: Sequence[PendingWrite]) -> dict[PendingWrite, QuotaExceeded]:
    """Count messages against their quotas; return those over quota, each with its error.

    First come, first served.
    """
    limited = [pending for pending in batch if pending.rows.per_day is not None]
    counts = Counter(pending.rows.counts_as for pending in limited)
    # The last message of a tenant knows its newest quota.
    per_day = {pending.rows.counts_as: pending.rows.per_day or 0 for pending in limited}
    rooms = quota.take(session, {counted: quota.Want(n, per_day[counted]) for counted, n in counts.items()})
    seen: Counter[UUID] = Counter()
    over_quota = {}
    for pending in limited:
        counted = pending.rows.counts_as
        seen[counted] += 1
        if seen[counted] > (room := rooms[counted]).n:
            over_quota[pending] = _exceeded(per_day[counted], room.day_left)
    return over_quota


def _exceeded(per_day: int, seconds: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"More than {per_day} messages today (UTC).", limit=per_day, retry_after=max(math.ceil(seconds), 1)
    )
