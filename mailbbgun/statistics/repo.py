"""Queries over the sums, and over the messages whose events are counted."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    case,
    delete,
    false,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from mailbbgun.database.db import dialect_of
from mailbbgun.database.sql import among, id_rows, recordset, rows
from mailbbgun.database.texts import domain_of
from mailbbgun.messages.models import DELIVERIES, MESSAGES, MessageCount
from mailbbgun.messages.status import PENDING
from mailbbgun.statistics.counting import DAY, HOUR, Dimension, EventFacts, LabelSums, RollupRow
from mailbbgun.statistics.histogram import LAST
from mailbbgun.statistics.models import STATISTICS

_S, _M, _D = STATISTICS.c, MESSAGES.c, DELIVERIES.c
_KEY = ("tenant_id", "interval", "dimension", "start", "value", "test")
#: The type of each part of a row's name in a parameter.
_GIVEN: dict[str, TypeEngine[Any]] = {
    "interval": String(),
    "dimension": String(),
    "start": BigInteger(),
    "value": String(),
    "test": Integer(),
}
_NUMBERS = {str(bucket): bucket for bucket in range(LAST + 1)}
#: Seconds of figures of each interval that one commit deletes, at most.
_PIECE = {"minute": HOUR, "hour": DAY, "day": 30 * DAY}


# Messages.


def facts(session: Session, tenant_id: UUID, accepted: Collection[UUID], delivered: Collection[UUID]) -> EventFacts:
    """Return what must be known of messages that were just accepted, and of those that were delivered."""
    dialect, domains = dialect_of(session), defaultdict[UUID, dict[str, int]](dict)
    if accepted:
        domain = domain_of(_D.address)
        its = select(_D.message_id, domain, func.count()).where(_D.tenant_id == tenant_id)
        its = its.where(among(dialect, _D.message_id, "ids")).group_by(_D.message_id, domain)
        for message_id, name, number in session.execute(its, {"ids": id_rows(dialect, accepted)}):
            domains[message_id][name.lower()] = domains[message_id].get(name.lower(), 0) + number
    if not delivered:
        return EventFacts({}, domains)
    known = (_M.tenant_id == tenant_id, among(dialect, _M.id, "ids"), _M.send_at.is_not(None))
    found = session.execute(select(_M.id, _M.send_at).where(*known), {"ids": id_rows(dialect, delivered)})
    return EventFacts({row.id: row.send_at for row in found}, domains)


def pending(session: Session, tenant_id: UUID, *, test: bool, tests_only: bool) -> tuple[int, Any]:
    """Return how many messages of a tenant are pending, and when the oldest of them was accepted.

    Of live mail the number that triggers keep is returned: it has the test messages, too.
    """
    its = [_M.tenant_id == tenant_id, _M.status == PENDING, *([_M.test == true()] if test or tests_only else [])]
    oldest = session.scalar(select(_M.created_at).where(*its).order_by(_M.id).limit(1))
    if test or tests_only:
        return session.scalar(select(func.count()).select_from(MESSAGES).where(*its)) or 0, oldest
    kept = select(func.sum(MessageCount.n)).where(MessageCount.tenant_id == tenant_id, MessageCount.status == PENDING)
    return int(session.scalar(kept) or 0), oldest


# Writing.


def labels(session: Session, tenant_id: UUID, days: Collection[int]) -> dict[tuple[str, int, bool], set[str]]:
    """Return the values that these days have, by dimension, day and test flag."""
    known = defaultdict[tuple[str, int, bool], set[str]](set)
    told = select(_S.dimension, _S.start, _S.test, _S.value).where(
        _S.tenant_id == tenant_id, _S.interval == "day", _S.dimension != Dimension.NONE.value, _S.start.in_(days)
    )
    for dimension, start, test, value in session.execute(told):
        known[dimension, start, test].add(value)
    return known


def add(session: Session, tenant_id: UUID, sums: Mapping[RollupRow, LabelSums]) -> None:
    """Add sums to the rows. The caller has locked the tenant's row of ``statistics_readers``."""
    if not sums:
        return
    together = {row: LabelSums(Counter(its.counts), Counter(its.times)) for row, its in sums.items()}
    for row, figures in _kept(session, tenant_id, list(sums)):
        together[row].add(figures.counts, figures.times)
    insert = postgresql.insert if dialect_of(session) == "postgresql" else sqlite.insert
    statement: Any = insert(STATISTICS)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(_KEY), set_={"counts": new.counts, "times": new.times}
    )
    # In order of the key, as all who write them do.
    given = [_values(tenant_id, row, together[row]) for row in sorted(together)]
    session.execute(statement, given)


def _kept(session: Session, tenant_id: UUID, named: Sequence[RollupRow]) -> Iterator[tuple[RollupRow, LabelSums]]:
    dialect = dialect_of(session)
    given: Any = recordset(dialect, "named", _GIVEN)
    ours = (_S.interval, _S.dimension, _S.start, _S.value, _S.test)
    flag = case((_S.test == true(), 1), else_=0)
    names = (_S[name] == given.c[name] for name in ("interval", "dimension", "start", "value"))
    # An outer join, so that each name is looked up by the primary key: SQLite would look through all names
    # for each row of the tenant.
    joined = given.outerjoin(STATISTICS, and_(_S.tenant_id == tenant_id, *names, flag == given.c.test))
    statement = select(*ours, _S.counts, _S.times).select_from(joined)
    records = [{**row._asdict(), "dimension": str(row.dimension), "test": int(row.test)} for row in named]
    for *row, counts, times in session.execute(statement, {"named": rows(records)}):
        if row[0] is not None:
            yield RollupRow(*row), figures(counts, times)


def _values(tenant_id: UUID, row: RollupRow, its: LabelSums) -> dict[str, Any]:
    times = {str(bucket): number for bucket, number in sorted(its.times.items())}
    return {
        "tenant_id": tenant_id,
        **row._asdict(),
        "dimension": str(row.dimension),
        "counts": dict(sorted(its.counts.items())),
        "times": times,
    }


def figures(counts: Mapping[str, int], times: Mapping[str, int]) -> LabelSums:
    """Return the sums of a row's two columns."""
    its = LabelSums()
    its.add(counts, buckets(times))
    return its


def buckets(times: Mapping[str, int]) -> dict[int, int]:
    """Return times by the number of their bucket, which JSON keeps as a text."""
    return {_NUMBERS[bucket]: number for bucket, number in times.items()}


# Reading.


def found(
    session: Session,
    tenant_id: UUID,
    dimension: Dimension,
    interval: str,
    span: tuple[int, int],
    *,
    test: bool,
    value: str | None = None,
    after: tuple[int, str] | None = None,
    limit: int | None = None,
) -> Iterator[tuple[int, str, Mapping[str, int], Mapping[int, int]]]:
    """Yield start, value, counts and times of rows that begin within a span, in this order.

    ``value``: only of this tag, domain or account. ``after`` and ``limit`` make pages.
    """
    statement: Select[Any] = (
        select(_S.start, _S.value, _S.counts, _S.times)
        .where(_S.tenant_id == tenant_id, _S.interval == interval, _S.dimension == dimension.value, _tested(test))
        .where(_S.start >= span[0], _S.start < span[1])
        .order_by(_S.start, _S.value)
    )
    if value is not None:
        statement = statement.where(_S.value == value)
    if after is not None:
        statement = statement.where(tuple_(_S.start, _S.value) > tuple_(literal(after[0]), literal(after[1])))
    for start, its, counts, times in session.execute(statement.limit(limit)):
        yield start, its, counts, buckets(times)


def _tested(test: bool) -> ColumnElement[bool]:
    return _S.test == (true() if test else false())


# Deleting.


def forget(session: Session, tenant_id: UUID, since: int | None) -> None:
    """Delete the figures of intervals that begin at ``since`` or later; None: all."""
    later = [] if since is None else [_S.start >= since]
    session.execute(delete(STATISTICS).where(_S.tenant_id == tenant_id, *later))


def forget_old(session: Session, interval: str, before: int) -> bool:
    """Delete a piece of the oldest figures of an interval. Return whether there is more that is too old."""
    first = session.scalar(select(func.min(_S.start)).where(_S.interval == interval))
    if first is None or first >= before:
        return False
    end = min(first + _PIECE[interval], before)
    session.execute(delete(STATISTICS).where(_S.interval == interval, _S.start < end))
    return bool(end < before)
