"""Storing what was accepted. What several requests bring at once goes into one commit: a commit costs the same for one and for fifty."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.accept import idempotency
from mailbbgun.accept.idempotency import Claim
from mailbbgun.base.db import Database
from mailbbgun.base.errors import DatabaseUnavailable
from mailbbgun.events import record
from mailbbgun.messages import repo

MESSAGES, BYTES = 50, 4_000_000  # of one commit

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A message as it is stored, and what is answered for it."""

    message: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    response: Answer


@dataclass(slots=True, eq=False)
class _Entry:
    rows: Rows
    claim: Claim | None
    written: bool = False
    alone: bool = False
    taken: bool = False  # somebody else has its key


class Store:
    """Writes for the threads of one process. Nothing of it is made before the fork: it is a queue and a lock."""

    def __init__(self, database: Database, remembered: int) -> None:
        """Keep idempotency keys for ``remembered`` seconds."""
        self._database = database
        self._remembered = remembered
        self._waiting: deque[_Entry] = deque()
        self._turn = threading.Lock()

    def store(self, rows: Rows, claim: Claim | None) -> Answer | None:
        """Commit the rows; return an earlier request's answer instead if it had the same key.

        Raises :class:`IdempotencyMismatch`, or :class:`DatabaseUnavailable` when it is not stored for sure.
        """
        entry = _Entry(rows, claim)
        self._waiting.append(entry)
        with self._turn:  # whose turn it is writes for all that wait; mostly somebody has when it comes
            while not (entry.written or entry.alone):
                self._write(list(self._batch()))
        if entry.alone:
            return self._by_itself(entry)
        return self._replayed(entry) if entry.taken else None

    def _batch(self) -> Iterator[_Entry]:
        messages, size, keys = 0, 0, set()
        while self._waiting and messages < MESSAGES and size < BYTES:
            entry = self._waiting.popleft()
            if entry.claim and entry.claim.key in keys:
                entry.alone = True  # it has to see what the other one answered
                continue
            if entry.claim:
                keys.add(entry.claim.key)
            messages, size = messages + 1, size + entry.rows.message["size"]
            yield entry

    def _write(self, batch: Sequence[_Entry]) -> None:
        try:
            with self._database.write() as session:
                self._insert(session, batch)
            for entry in batch:
                entry.written = True
        except (DatabaseUnavailable, DBAPIError):
            pass  # whose fault it was, and whether it was committed all the same, each finds out for itself
        finally:
            for entry in batch:
                entry.alone = not entry.written

    def _insert(self, session: Session, batch: Sequence[_Entry]) -> None:
        claiming = {entry.claim: entry for entry in batch if entry.claim}
        wanted = {claim: (entry.rows.message["id"], entry.rows.response) for claim, entry in claiming.items()}
        for claim in wanted.keys() - idempotency.take(session, wanted, self._remembered):
            claiming[claim].taken = True
        record.accepted(session, [(entry.rows.message, entry.rows.deliveries) for entry in batch if not entry.taken])

    def _by_itself(self, entry: _Entry) -> Answer | None:
        # The connection may have broken after the commit: look before trying again, and try only once.
        if self._is_stored(entry):
            return None
        entry.taken = False
        try:
            with self._database.write() as session:
                self._insert(session, [entry])
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
