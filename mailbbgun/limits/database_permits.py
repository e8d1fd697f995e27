"""The permit store in the service's own database: one statement for any number of accounts, the same on PostgreSQL and SQLite."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Table,
    Uuid,
    case,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from mailbbgun.database.db import Database, db_epoch
from mailbbgun.database.ready import ReadyStatement, StatementStep
from mailbbgun.database.sql import id_rows, ids, recordset, rows
from mailbbgun.limits.models import PermitCount
from mailbbgun.limits.permits import DAY, Permit, PermitRequest, PermitStore, granted

_PACE = cast(Table, PermitCount.__table__)

_WANTS: dict[str, TypeEngine[Any]] = {
    "account_id": Uuid(),
    "n": Integer(),
    "unused": Integer(),
    "spacing": Double(),
    "burst": Double(),
    "per_day": Integer(),
}


class _Counted(NamedTuple):
    """What is counted of an account after a question."""

    account_id: UUID
    granted: int
    used: int
    ahead: float  # seconds until what was granted is paid for
    day_left: float  # seconds


class DatabasePermitStore(PermitStore):
    """Rows of ``smtp_pace``. Raises :class:`DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, wants: Sequence[PermitRequest]) -> list[Permit]:
        """One statement; three if an account was never asked for before."""
        found = self._granted(wants)
        if new := [want for want in wants if want.account_id not in found]:
            self._begin([want.account_id for want in new])
            found |= self._granted(new)
        return [_answer(want, found.get(want.account_id)) for want in wants]

    def close(self) -> None:
        """Nothing to close: the database belongs to others."""

    def _granted(self, wants: Sequence[PermitRequest]) -> dict[UUID, _Counted]:
        if not wants:
            return {}
        given = rows([_record(want) for want in wants])
        found = self._database.ask(_ask(self._database.dialect), {"wants": given})
        return {row.account_id: row for row in map(_Counted._make, found)}

    def _begin(self, account_ids: Sequence[UUID]) -> None:
        dialect = self._database.dialect
        self._database.commit([StatementStep(_begin(dialect), [{"new": id_rows(dialect, account_ids)}])])


def _record(want: PermitRequest) -> Mapping[str, Any]:
    limits = want.limits
    return {
        "account_id": want.account_id.hex,
        "n": want.n,
        "unused": want.unused,
        "spacing": limits.interval,
        "burst": limits.burst,
        "per_day": limits.per_day,
    }


def _answer(want: PermitRequest, row: _Counted | None) -> Permit:
    if row is None:  # somebody deleted the row between two statements
        return Permit(want.account_id, 0, want.limits.interval)
    return granted(want, row.granted, row.used, row.ahead, row.day_left)


def _whole(dialect: str, number: ColumnElement[Any]) -> ColumnElement[int]:
    """Round a number that is not negative down. PostgreSQL's cast rounds to the nearest, SQLite's floor() is not built in everywhere."""
    return sql_cast(func.floor(number) if dialect == "postgresql" else number, BigInteger)


@cache
def _ask(dialect: str) -> ReadyStatement:
    least, greatest = (func.least, func.greatest) if dialect == "postgresql" else (func.min, func.max)
    held = _held(dialect).c
    today = _whole(dialect, held.now / float(DAY))
    debt = select(
        *(held[name] for name in ("account_id", "n", "spacing", "burst", "per_day", "now")),
        # No further away than a full burst: after longer intervals, or a clock set back, what was counted by the old ones is no debt.
        least(greatest(held.free_at - held.now, 0.0), held.burst * held.spacing).label("ahead"),
        today.label("day"),
        # Of another day nothing counts, not even what of it was not needed.
        case((held.day == today, greatest(held.used - held.unused, 0)), else_=0).label("used"),
    )
    owed = debt.cte("owed").c
    room = _whole(dialect, greatest(owed.burst - owed.ahead / owed.spacing, 0.0))
    n = greatest(least(owed.n, room, owed.per_day - owed.used), 0)
    counted = select(
        owed.account_id,
        owed.day,
        n.label("granted"),
        (owed.used + n).label("used"),
        (owed.now + owed.ahead + n * owed.spacing).label("free_at"),
    ).cte("counted")
    left = (_PACE.c.day + 1) * float(DAY) - db_epoch()
    return ReadyStatement(
        update(_PACE)
        .where(_PACE.c.account_id == counted.c.account_id)
        .values({name: counted.c[name] for name in ("free_at", "day", "used", "granted")})
        .returning(_PACE.c.account_id, _PACE.c.granted, _PACE.c.used, _PACE.c.free_at - db_epoch(), left)
    )


def _held(dialect: str) -> CTE:
    """The wants with what their rows say, and the moment at which each row was ours.

    Locked in the order of ids, so that two questions cannot wait for each other. The clock is read under the lock: by an earlier one, what
    others were granted during the wait would look like a debt from before a change of limits.
    """
    wants = recordset(dialect, "wants", _WANTS)
    both = select(*wants.c, *(_PACE.c[name] for name in ("free_at", "day", "used"))).join_from(
        _PACE, wants, _PACE.c.account_id == wants.c.account_id
    )
    held = (
        both.order_by(_PACE.c.account_id)
        .with_for_update(of=_PACE)
        .cte("held")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return select(*held.c, db_epoch().label("now")).cte("timed").prefix_with("MATERIALIZED", dialect="postgresql")


@cache
def _begin(dialect: str) -> ReadyStatement:
    """Make rows for accounts that have none; what another process has made meanwhile is as good."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    new = ids(dialect, "new").c
    nothing = literal(0, Integer)
    # SQLite needs the WHERE to tell the conflict's ON from a join's.
    values = select(new.id, literal(0.0, Double), nothing, nothing, nothing).where(true()).order_by(new.id)
    return ReadyStatement(
        insert(_PACE).from_select(["account_id", "free_at", "day", "used", "granted"], values).on_conflict_do_nothing()
    )
