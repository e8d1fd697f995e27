"""Stores a batch: its row, what its messages are made of, and the messages, by one commit.

The promises are those of ``accept/store.py``. A batch has a commit of its own: it is larger than fifty
single messages together.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import and_, bindparam, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.batches.models import BATCHES
from mailbbgun.core.errors import DatabaseUnavailable, QuotaExceeded
from mailbbgun.core.faults import fault
from mailbbgun.database import idempotency
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import Database, wait_at_most
from mailbbgun.database.idempotency import PATIENCE, KeyClaim
from mailbbgun.events import batched, log
from mailbbgun.limits import quota

lines = logging.getLogger("mailbbgun.events")

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that is to be stored.

    ``row`` is its row in ``batches``. ``steps`` returns the statements that store its messages in a
    dialect; they follow the row.
    """

    row: Mapping[str, Any]
    steps: Callable[[str], Sequence[StatementStep]]
    response: Answer
    counts_as: UUID
    #: The tenant's quota: messages a day; None: no quota.
    per_day: int | None = None

    @property
    def n(self) -> int:
        """How many messages it has."""
        return int(self.row["messages"])


class BatchStore:
    """Writes batches for one process. Thread-safe: each request's thread writes its own batch."""

    def __init__(self, database: Database, remembered: int) -> None:
        """Keep idempotency keys for ``remembered`` seconds."""
        self._database = database
        #: Seconds for which an Idempotency-Key is remembered.
        self.remembered = remembered

    def store(self, new: NewBatch, key_claim: KeyClaim | None) -> Answer | None:
        """Store a batch durably, or return the answer of an earlier request with its key.

        Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`, and :class:`DatabaseUnavailable` if
        it is not certain that the batch is stored.
        """
        try:
            return self._write(new, key_claim)
        except (DatabaseUnavailable, IntegrityError):
            # The connection may have broken after the commit, or another program stores the same source:
            # look first, then try again once.
            if (stored := self._stored(new)) is not None:
                return None if stored["batch_id"] == new.row["id"] else stored
            return self._write(new, key_claim)

    def earlier(self, key_claim: KeyClaim) -> idempotency.Earlier | None:
        """Return the first request with this key, if it is still remembered."""
        with self._database.read() as session:
            return idempotency.earlier(session, key_claim, self.remembered)

    def _write(self, new: NewBatch, key_claim: KeyClaim | None) -> Answer | None:
        fault("accept.commit")
        dialect = self._database.dialect
        event = log.appending(dialect, [batched.event(new.row)])
        steps = [StatementStep(_appended(), [new.row]), *new.steps(dialect), event]
        if key_claim is None and new.per_day is None:
            self._database.commit(steps)  # without a Session, so in one round trip
        else:
            with self._database.write() as session:
                wait_at_most(session, PATIENCE)
                if key_claim and not self._take_key(session, new, key_claim):
                    return idempotency.replay(session, key_claim)
                _take_quota(session, new)
                for compiled, given in steps:
                    session.execute(compiled.statement, given)
        fault("accept.committed")
        self._print_line(new)
        return None

    def _take_key(self, session: Session, new: NewBatch, key_claim: KeyClaim) -> bool:
        """Store the key with the answer; return whether no earlier request had it."""
        as_json = orjson.loads(orjson.dumps(new.response))
        return bool(idempotency.take(session, {key_claim: (new.row["id"], as_json)}, self.remembered))

    def _stored(self, new: NewBatch) -> Answer | None:
        """Return what is stored of a batch, or of another of the same source; None if neither is."""
        its, row = BATCHES.c, new.row
        same = [and_(its.tenant_id == row["tenant_id"], its.source == row["source"])] if row["source"] else []
        with self._database.read() as session:
            found = session.execute(
                select(its.id.label("batch_id"), its.messages.label("accepted"), its.refused).where(
                    or_(its.id == row["id"], *same)
                )
            )
            first = found.mappings().first()
        return None if first is None else {**first, "ids": [], "errors": []}

    @staticmethod
    def _print_line(new: NewBatch) -> None:
        """Print one log line for the batch. Its messages have no lines of their own yet."""
        told = {name: new.row[name] for name in ("tenant_id", "key_id", "messages", "first_id", "last_id")}
        lines.info("batch_accepted", extra={"batch_id": new.row["id"], **told})


def _take_quota(session: Session, new: NewBatch) -> None:
    """Count the messages of a batch against its tenant's quota. Raises :class:`QuotaExceeded`.

    The count is undone with the transaction: a batch is accepted whole or not at all.
    """
    if new.per_day is None:
        return
    room = quota.take(session, {new.counts_as: quota.Want(new.n, new.per_day)})[new.counts_as]
    if room.n < new.n:
        raise QuotaExceeded(
            f"The batch has {new.n} messages, and {room.n} of {new.per_day} are left today (UTC).",
            limit=new.per_day,
            retry_after=max(math.ceil(room.day_left), 1),
        )


@cache
def _appended() -> CompiledStatement:
    return CompiledStatement(
        insert(BATCHES).values({column.name: bindparam(column.name) for column in BATCHES.columns})
    )
