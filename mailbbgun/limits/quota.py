"""Messages a day of a tenant, counted in the transaction that stores them: so the count is exact, and as durable as they.

Test messages are counted under an id of their own (``caller.counts_as``), up to the same quota.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Executable, Integer, Uuid, case, func, select, true
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_epoch, dialect_of
from mailbbgun.database.sql import recordset, rows
from mailbbgun.tenants.models import USAGE

DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Want:
    """A tenant's wish to have ``n`` messages accepted, of ``per_day`` in a UTC day."""

    n: int
    per_day: int


@dataclass(frozen=True, slots=True)
class Room:
    """What is accepted of them, and in how many seconds the next day begins."""

    n: int
    day_left: float


def take(session: Session, wants: Mapping[UUID, Want]) -> dict[UUID, Room]:
    """Count messages of tenants, as many as today's quotas have room for, and return how many these are. One statement.

    Holds each tenant's count until the transaction ends; in the order of ids, so that two that have tenants in common cannot lock each other out.
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
    # PostgreSQL's cast rounds to the nearest, SQLite's floor() is not built in everywhere.
    days = db_epoch() / float(DAY)
    today: Any = sql_cast(func.floor(days) if dialect == "postgresql" else days, BigInteger)
    first = least(wanted.n, wanted.per_day)
    # SQLite needs the WHERE to tell the conflict's ON from a join's.
    new = select(wanted.tenant_id, today, first, first, wanted.per_day).where(true()).order_by(wanted.tenant_id)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(USAGE).from_select(["tenant_id", "day", "used", "granted", "per_day"], new)
    ours, wish = USAGE.c, statement.excluded
    # Tomorrow's count may be there already, when the wait for the row passed midnight: then this belongs to it. Of any other day nothing counts.
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
