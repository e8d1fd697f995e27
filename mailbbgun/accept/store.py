"""Storing what was accepted. What several requests bring at once goes into one commit: a commit costs the same for one and for fifty."""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.accept import idempotency
from mailbbgun.accept.idempotency import Claim
from mailbbgun.base.db import Database
from mailbbgun.base.faults import fault
from mailbbgun.events import record
from mailbbgun.messages import repo

MESSAGES, BYTES = 50, 4_000_000  # of one commit
LARGE = 1_000_000  # bytes; larger messages are written by their own requests, and hold up nobody

# Seconds to wait for a request elsewhere that has the same key and has not committed: of all who share a commit, and of one alone.
PATIENCE_FOR_ALL, PATIENCE = 0.2, 5.0

log = logging.getLogger("mailbbgun.accept")

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A message as it is stored, and what is answered for it."""

    message: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    response: Answer


class _Entry:
    __slots__ = ("alone", "bell", "claim", "rows", "taken", "written")

    def __init__(self, rows: Rows, claim: Claim | None) -> None:
        self.rows = rows
        self.claim = claim
        self.written = self.alone = False
        self.taken = False  # somebody else has its key
        self.bell = threading.Lock()  # rings by its release: an Event costs ten times as much
        self.bell.acquire()


class Store:
    """Writes for the threads of one process. One thread at a time writes for all that wait; then it hands on to the next."""

    def __init__(self, database: Database, remembered: int) -> None:
        """Keep idempotency keys for ``remembered`` seconds."""
        self._database = database
        self._remembered = remembered
        self._waiting: deque[_Entry] = deque()
        self._lock = threading.Lock()
        self._writing = False

    def store(self, rows: Rows, claim: Claim | None) -> Answer | None:
        """Commit the rows; return an earlier request's answer instead if it had the same key.

        Raises :class:`IdempotencyMismatch`, or :class:`DatabaseUnavailable` when it is not stored for sure.
        """
        entry = _Entry(rows, claim)
        if rows.message["size"] > LARGE:
            self._write([entry], patience=PATIENCE)
        else:
            self._together(entry)
        if entry.alone:
            return self._by_itself(entry)
        return self._replayed(entry) if entry.taken else None

    def _together(self, entry: _Entry) -> None:
        with self._lock:
            self._waiting.append(entry)
            wait, self._writing = self._writing, True
        if wait:
            entry.bell.acquire()
        if not (entry.written or entry.alone):
            self._write_for_all(entry)

    def _write_for_all(self, own: _Entry) -> None:
        try:
            while not (own.written or own.alone):
                self._write(list(self._batch()), patience=PATIENCE_FOR_ALL)
        finally:
            with self._lock:
                self._writing = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].bell.release()

    def _batch(self) -> Iterator[_Entry]:
        messages, size, keys = 0, 0, set()
        while self._waiting and messages < MESSAGES and size < BYTES:
            entry = self._waiting.popleft()
            if entry.claim and entry.claim.key in keys:
                entry.alone = True  # it has to see what the other one answered
                entry.bell.release()
                continue
            if entry.claim:
                keys.add(entry.claim.key)
            messages, size = messages + 1, size + entry.rows.message["size"]
            yield entry

    def _write(self, batch: Sequence[_Entry], patience: float) -> None:
        try:
            with self._database.write(one_statement=not any(entry.claim for entry in batch)) as session:
                fault("accept.commit")
                self._insert(session, batch, patience)
            fault("accept.committed")
            for entry in batch:
                entry.written = True
        except Exception as error:  # noqa: BLE001 - whose fault it was, and whether it was committed all the same, each finds out for itself
            log.info("commit_shared_failed", extra={"messages": len(batch), "error": type(error).__name__})
        finally:
            for entry in batch:
                entry.alone = not entry.written
                entry.bell.release()

    def _insert(self, session: Session, batch: Sequence[_Entry], patience: float) -> None:
        claiming = {entry.claim: entry for entry in batch if entry.claim}
        wanted = {claim: (entry.rows.message["id"], entry.rows.response) for claim, entry in claiming.items()}
        for claim in wanted.keys() - idempotency.take(session, wanted, self._remembered, patience):
            claiming[claim].taken = True
        record.accepted(session, [(entry.rows.message, entry.rows.deliveries) for entry in batch if not entry.taken])

    def _by_itself(self, entry: _Entry) -> Answer | None:
        # The connection may have broken after the commit: look before trying again, and try only once.
        if self._is_stored(entry):
            return None
        entry.taken = False
        try:
            with self._database.write() as session:
                self._insert(session, [entry], PATIENCE)
        except IntegrityError:
            if not self._is_stored(entry):  # the first commit came through after the look
                raise
            return None
        return self._replayed(entry) if entry.taken else None

    def _replayed(self, entry: _Entry) -> Answer:
        assert entry.claim is not None  # only a key can be taken
        with self._database.read() as session:
            return idempotency.replay(session, entry.claim)

    def _is_stored(self, entry: _Entry) -> bool:
        with self._database.read() as session:
            return repo.exists(session, entry.rows.message["id"])
