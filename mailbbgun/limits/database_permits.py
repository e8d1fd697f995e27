"""The permit store in the service's own database.

One statement answers for any number of accounts. It is the same on PostgreSQL and SQLite.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    CTE,
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
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import Database, db_epoch
from mailbbgun.database.sql import id_rows, ids, recordset, rounded_down, rows
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
    """The state of an account after a request, as the statement returns it."""

    account_id: UUID
    granted: int
    used: int
    ahead: float  # seconds from now to ``free_at``
    day_left: float  # seconds until midnight, UTC


class DatabasePermitStore(PermitStore):
    """Counts in rows of the table ``smtp_pace``. Raises :class:`DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, wants: Sequence[PermitRequest]) -> list[Permit]:
        """Answer with one statement, or with three if an account has no row yet."""
        found = self._granted(wants)
        if new := [want for want in wants if want.account_id not in found]:
            self._begin([want.account_id for want in new])
            found |= self._granted(new)
        return [_answer(want, found.get(want.account_id)) for want in wants]

    def close(self) -> None:
        """Do nothing: the database belongs to others."""

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
    if row is None:  # another process deleted the row between two statements
        return Permit(want.account_id, 0, want.limits.interval)
    return granted(want, row.granted, row.used, row.ahead, row.day_left)


@cache
def _ask(dialect: str) -> CompiledStatement:
    """Return the statement that grants permits: the arithmetic of ``permits.py`` in SQL."""
    least, greatest = (func.least, func.greatest) if dialect == "postgresql" else (func.min, func.max)
    held = _held(dialect).c
    today = rounded_down(dialect, held.now / float(DAY))
    debt = select(
        *(held[name] for name in ("account_id", "n", "spacing", "burst", "per_day", "now")),
        # At most a full burst. It is more only if the limits were changed or the clock was set
        # back, and then the old count does not matter.
        least(greatest(held.free_at - held.now, 0.0), held.burst * held.spacing).label("ahead"),
        today.label("day"),
        # The count of another day does not matter, and neither do its unused permits.
        case((held.day == today, greatest(held.used - held.unused, 0)), else_=0).label("used"),
    )
    owed = debt.cte("owed").c
    room = rounded_down(dialect, greatest(owed.burst - owed.ahead / owed.spacing, 0.0))
    n = greatest(least(owed.n, room, owed.per_day - owed.used), 0)
    counted = select(
        owed.account_id,
        owed.day,
        n.label("granted"),
        (owed.used + n).label("used"),
        (owed.now + owed.ahead + n * owed.spacing).label("free_at"),
    ).cte("counted")
    left = (_PACE.c.day + 1) * float(DAY) - db_epoch()
    return CompiledStatement(
        update(_PACE)
        .where(_PACE.c.account_id == counted.c.account_id)
        .values({name: counted.c[name] for name in ("free_at", "day", "used", "granted")})
        .returning(_PACE.c.account_id, _PACE.c.granted, _PACE.c.used, _PACE.c.free_at - db_epoch(), left)
    )


def _held(dialect: str) -> CTE:
    """Return the requests with the rows of their accounts, and the time at which each was locked.

    Rows are locked in the order of ids, so that two statements cannot deadlock. The clock is read
    under the lock. By an earlier time, permits that others got during the wait would look like more
    than a full burst, and not all of them would count.
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
def _begin(dialect: str) -> CompiledStatement:
    """Return the statement that makes rows for accounts, unless they have one by now."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    new = ids(dialect, "new").c
    nothing = literal(0, Integer)
    # Without a WHERE, SQLite would take ON CONFLICT for the ON of a join.
    values = select(new.id, literal(0.0, Double), nothing, nothing, nothing).where(true()).order_by(new.id)
    return CompiledStatement(
        insert(_PACE).from_select(["account_id", "free_at", "day", "used", "granted"], values).on_conflict_do_nothing()
    )
