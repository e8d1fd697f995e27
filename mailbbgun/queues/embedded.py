"""Stores hints as rows of the service's own database: the default, with nothing to install.

A hint may be taken once its ``visible_at`` has passed. Taking it moves ``visible_at`` on by
:data:`HOLD_SECONDS`; settling it deletes the row. So the hints of a killed consumer come again by
themselves. Only the database's clock counts.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Select,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    literal,
    literal_column,
    select,
    union_all,
    update,
)

from mailbbgun.core.errors import DatabaseUnavailable, QueueMisconfigured, QueueUnavailable
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.sql import id_rows, ids, recordset, rows
from mailbbgun.queues.base import Consumer, Hint, Queue
from mailbbgun.queues.lanes import LANES, WeightedRoundRobin
from mailbbgun.queues.models import QueuedHint

#: Seconds for which a taken hint is hidden: far longer than it takes to settle it.
HOLD_SECONDS = 15

#: Seconds between two looks for hints.
POLL_SECONDS = 0.05

_HINTS = cast("Table", QueuedHint.__table__)

log = logging.getLogger(__name__)


class Embedded(Queue):
    """The queue of ``embedded:``. ``delays`` are seconds."""

    def __init__(self, database: Database, delays: Sequence[int]) -> None:
        self._database = database
        self._delays = tuple(sorted(set(delays)))

    @property
    def delays(self) -> Sequence[int]:
        """Return the delays in seconds, ascending."""
        return self._delays

    def declare(self) -> None:
        """Check only: the table comes with the database's schema."""
        self.check()

    def check(self) -> None:
        """Check that the table is there."""
        with _translated():
            with self._database.read() as session:
                found = inspect(session.connection()).has_table(_HINTS.name)
        if not found:
            raise QueueMisconfigured(f"the database has no table {_HINTS.name}; run initdb.py")

    def mend(self) -> Sequence[str]:
        """Check only: the table comes with the database's schema."""
        self.check()
        return ()

    def publish(self, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
        """Insert all rows in one transaction."""
        if lane not in LANES:
            raise ValueError(f"there is no lane {lane!r}")
        if delay and delay not in self._delays:
            raise ValueError(f"there is no delay of {delay} s")
        if not message_ids:
            return
        given = ids(self._database.dialect, "given")
        hints = select(bindparam("lane", type_=String), given.c.id, db_now(bindparam("delay", type_=BigInteger)))
        statement = insert(_HINTS).from_select(["lane", "message_id", "visible_at"], hints)
        with _translated(), self._database.write() as session:
            session.execute(
                statement, {"lane": lane, "given": id_rows(self._database.dialect, message_ids), "delay": delay}
            )

    def consumer(self, prefetch: int, lanes: Collection[str] = LANES) -> Consumer:
        """Return a consumer, which takes nothing before :meth:`Consumer.take`."""
        return _EmbeddedConsumer(self._database, prefetch, lanes)

    def depth(self) -> Mapping[str, int]:
        """Count the hints that may be taken now; exact."""
        with _translated(), self._database.read() as session:
            counts = select(_HINTS.c.lane, func.count()).where(_HINTS.c.visible_at <= db_now()).group_by(_HINTS.c.lane)
            return dict.fromkeys(LANES, 0) | dict(session.execute(counts).all())

    def close(self) -> None:
        """Do nothing: the database is closed elsewhere."""


class _EmbeddedConsumer(Consumer):
    def __init__(self, database: Database, prefetch: int, lanes: Collection[str]) -> None:
        self._database = database
        self._prefetch = prefetch
        self._lanes = lanes
        self._turns = WeightedRoundRobin()
        self._held: dict[str, set[int]] = {lane: set() for lane in LANES}

    def take(self, limit: int, timeout: float, lanes: Collection[str] = LANES) -> list[Hint]:
        """Poll every 50 ms by reading; write only if there is something to take."""
        until = time.monotonic() + timeout
        while True:
            turns = self._choose(limit, lanes)
            if turns and (hints := self._take(turns)):
                return hints
            left = until - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(POLL_SECONDS, left))

    def settle(self, hints: Sequence[Hint]) -> None:
        """Delete the rows."""
        if not hints:
            return
        for hint in hints:
            self._held[hint.lane].discard(_row(hint))
        settled = recordset(self._database.dialect, "settled", {"id": BigInteger()})
        statement = delete(_HINTS).where(_HINTS.c.id.in_(select(settled.c.id)))
        with _translated(), self._database.write() as session:
            session.execute(statement, {"settled": rows([{"id": _row(hint)} for hint in hints])})

    def close(self) -> None:
        """Make the unsettled hints visible at once."""
        held = [{"id": row} for lane in LANES for row in self._held[lane]]
        self._held = {lane: set() for lane in LANES}
        if not held:
            return
        given_back = recordset(self._database.dialect, "given_back", {"id": BigInteger()})
        statement = update(_HINTS).where(_HINTS.c.id.in_(select(given_back.c.id))).values(visible_at=db_now())
        try:
            with _translated(), self._database.write() as session:
                session.execute(statement, {"given_back": rows(held)})
        except QueueUnavailable as error:
            log.warning(
                "hints could not be given back and come again soon", extra={"count": len(held), "error": error.message}
            )

    def _choose(self, limit: int, lanes: Collection[str]) -> list[str]:
        """Return the lanes of the next turns: one for each hint to take, at most ``limit``."""
        wanted = {lane for lane in lanes if lane in self._lanes}
        room = {lane: min(limit, self._prefetch - len(self._held[lane])) if lane in wanted else 0 for lane in LANES}
        with _translated(), self._database.read() as session:
            found = session.execute(_COUNTS, room).one()
        waiting = {lane: range(count) for lane, count in zip(LANES, found, strict=True)}
        turns: list[str] = []
        while len(turns) < limit and (lane := self._turns.next(waiting)):
            waiting[lane] = waiting[lane][1:]
            turns.append(lane)
        return turns

    def _take(self, turns: Sequence[str]) -> list[Hint]:
        with _translated(), self._database.write() as session:
            taken = session.execute(_TAKE, {lane: turns.count(lane) for lane in LANES}).all()
        queued: dict[str, list[Hint]] = {lane: [] for lane in LANES}
        for row in sorted(taken, key=lambda row: row.id, reverse=True):
            queued[row.lane].append(Hint(row.message_id, row.lane, row.id))
            self._held[row.lane].add(row.id)
        # Another consumer may have taken some of these hints; their turns are left out.
        return [queued[lane].pop() for lane in turns if queued[lane]]


def _row(hint: Hint) -> int:
    assert isinstance(hint.token, int)
    return hint.token


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DatabaseUnavailable as error:
        raise QueueUnavailable(str(error), refused=error.refused) from error


def _due(lane: str) -> Select[int]:
    due = select(_HINTS.c.id).where(_HINTS.c.lane == literal(lane, String), _HINTS.c.visible_at <= db_now())
    return due.order_by(_HINTS.c.visible_at).limit(bindparam(lane, type_=BigInteger))


# Both statements have one parameter for each lane, named like it: the most rows of that lane.
_COUNTS = select(
    *(select(func.count()).select_from(_due(lane).subquery()).scalar_subquery().label(lane) for lane in LANES)
)
_DUE = [_due(lane).with_for_update(skip_locked=True).cte(f"due_{lane}").prefix_with("MATERIALIZED") for lane in LANES]
_TAKE = (
    update(_HINTS)
    .where(_HINTS.c.id.in_(union_all(*(select(due.c.id) for due in _DUE))))
    .values(visible_at=db_now(literal_column(str(HOLD_SECONDS))))
    .returning(_HINTS.c.id, _HINTS.c.lane, _HINTS.c.message_id)
)
