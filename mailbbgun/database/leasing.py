"""Leases: rows of a table that one worker at a time has in hand.

All is done by set-based statements, and by the database's clock alone.

A table is leased that has ``id`` and the columns of :class:`LeaseColumns`, an index on ``lease_owner`` and
``lease_until`` where there is an owner, and a condition of its own for rows that are still to be worked on. A worker

1. locks rows that are due, in the order of their ids (:func:`locked`), takes them (:func:`taken`) and commits;
2. prolongs what it works on (:func:`prolonged`), and asks its own clock whether a lease still stands;
3. writes a result only where its lease stands (:func:`standing`), with :data:`ENDED` among the values.

Rows of a worker that is gone are found by their lease (:func:`expired_owners`, :func:`held_by`).
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, FromClause, Integer, Select, Table, Update, bindparam, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.sql.dml import ReturningUpdate

from mailbbgun.database.db import UTCDateTime, db_now
from mailbbgun.database.sql import among, chosen, for_each, id_rows, unguessed

#: Values of a row that nobody has in hand.
ENDED = {"lease_owner": None, "lease_until": None}


class LeaseColumns:
    """Columns of a table whose rows are leased.

    ``attempt`` counts leases and only ever grows: it is the fencing token.
    """

    attempt: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[UUID | None]
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime())


def locked(dialect: str, given: FromClause, key: ColumnElement[UUID], rows: Select[tuple[UUID]]) -> CTE:
    """Lock the rows whose ``key`` is among ``given``. ``rows`` selects ids that may be taken, and nothing else.

    ``given`` must be bound to ids in their order. Rows are locked in the order of these, and those of
    one id in the order of their own, so that two workers that want the same rows cannot lock each
    other out. SKIP LOCKED is not used: another writer of such a row at this moment does not take it,
    and a row that is skipped is not looked for again at once.
    """
    (id_,) = rows.selected_columns
    ordered = rows.order_by(id_).with_for_update()
    return for_each(dialect, given, key, ordered).cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")


def taken(dialect: str, table: Table, rows: CTE) -> Update:
    """Return the statement that leases the chosen ``rows`` to the parameter ``owner`` for as many ``seconds``."""
    columns = table.c
    until = db_now(bindparam("seconds", type_=Integer))
    lease = {"lease_owner": bindparam("owner"), "lease_until": until, "attempt": columns.attempt + 1}
    return update(table).where(chosen(dialect, columns.id, rows)).values(lease)


def prolonged(dialect: str, table: Table) -> ReturningUpdate[tuple[UUID, int]]:
    """Return the statement that prolongs leases which a worker still has; bind it with :func:`prolonging`.

    It returns id and attempt of each. The attempt matters: a row that was taken from a worker may be its own again,
    and its former lease must not stand up with the new one.
    """
    columns = table.c
    until = db_now(bindparam("seconds", type_=Integer))
    statement = update(table).where(among(dialect, columns.id, "leases"), columns.lease_owner == bindparam("owner"))
    return statement.values(lease_until=until).returning(columns.id, columns.attempt)


def prolonging(dialect: str, owner: UUID, ids: Collection[UUID], seconds: int) -> dict[str, Any]:
    """Return the values for :func:`prolonged`: the leases of these rows end ``seconds`` from now."""
    return {"owner": owner, "leases": id_rows(dialect, ids), "seconds": seconds}


def standing(table: Table, attempt: Any, pending: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a row is still the parameter ``owner``'s by that attempt, and still ``pending``."""
    return unguessed(table.c.attempt == attempt, table.c.lease_owner == bindparam("owner"), pending)


def expired_owners(session: Session, table: Table) -> list[UUID]:
    """Return whose leases have run out."""
    expired = (table.c.lease_owner.is_not(None), table.c.lease_until < db_now())
    return list(session.execute(select(table.c.lease_owner).distinct().where(*expired)).scalars())


def held_by(table: Table, owner: UUID, *, expired_only: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a row is leased by a worker, and if ``expired_only`` that its lease has run out."""
    held = table.c.lease_owner == owner
    return (held, table.c.lease_until < db_now()) if expired_only else (held,)


def by_owner(session: Session, table: Table) -> dict[UUID, tuple[int, datetime | None]]:
    """Return how many rows each worker has in hand, and when the first of these leases ends."""
    owner, first = table.c.lease_owner, func.min(table.c.lease_until)
    statement = select(owner, func.count(), first).where(owner.is_not(None)).group_by(owner)
    return {worker: (number, until) for worker, number, until in session.execute(statement)}
