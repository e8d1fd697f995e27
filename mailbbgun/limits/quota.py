"""Counts the messages a day of a tenant, in the transaction that stores them.

So the count is exact, and as durable as the messages. Test messages are counted under an id of
their own (``caller.counts_as``), up to the same quota.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Integer, Uuid, case, func, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_epoch, dialect_of
from mailbbgun.database.sql import recordset, rounded_down, rows
from mailbbgun.limits.permits import DAY
from mailbbgun.tenants.models import USAGE


@dataclass(frozen=True, slots=True)
class Want:
    """A tenant's request: to accept ``n`` messages, with a quota of ``per_day`` in a UTC day."""

    n: int
    per_day: int


@dataclass(frozen=True, slots=True)
class Room:
    """How many messages are accepted, and in how many seconds the next UTC day begins."""

    n: int
    day_left: float


def take(session: Session, wants: Mapping[UUID, Want]) -> dict[UUID, Room]:
    """Count messages of tenants, as many as today's quotas have room for, and return how many.

    It is one statement, and locks each tenant's count until the transaction ends. It does so in the
    order of ids, so that two transactions cannot deadlock.
    """
    if not wants:
        return {}
    given = [{"tenant_id": tenant_id.hex, "n": want.n, "per_day": want.per_day} for tenant_id, want in wants.items()]
    found = session.execute(_take(dialect_of(session)), {"wants": rows(given)})
    return {row.tenant_id: Room(row.granted, row.day_left) for row in found}


@cache
def _take(dialect: str) -> Executable:
    least, greatest = (func.least, func.greatest) if dialect == "postgresql" else (func.min, func.max)
    wanted = recordset(dialect, "wants", {"tenant_id": Uuid(), "n": Integer(), "per_day": Integer()}).c
    today: Any = rounded_down(dialect, db_epoch() / float(DAY))
    first = least(wanted.n, wanted.per_day)
    # Without a WHERE, SQLite would take ON CONFLICT for the ON of a join.
    new = select(wanted.tenant_id, today, first, first, wanted.per_day).where(true()).order_by(wanted.tenant_id)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(USAGE).from_select(["tenant_id", "day", "used", "granted", "per_day"], new)
    ours, wish = USAGE.c, statement.excluded
    # If the wait for the row's lock passed midnight, the row may have tomorrow's count already.
    # Then these messages count for tomorrow. The count of any other day does not matter.
    tomorrow = ours.day == wish.day + 1
    before = case((tomorrow | (ours.day == wish.day), ours.used), else_=0)
    granted = greatest(least(wish.granted, wish.per_day - before), 0)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id"],
        set_={
            "day": case((tomorrow, ours.day), else_=wish.day),
            "used": before + granted,
            "granted": granted,
            "per_day": wish.per_day,
        },
    )
    return statement.returning(
        ours.tenant_id, ours.granted, ((ours.day + 1) * float(DAY) - db_epoch()).label("day_left")
    )
