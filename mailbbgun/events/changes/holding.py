"""Holds the mail of suspended tenants, and lets it go when they are active again."""

from collections.abc import Collection, Mapping
from functools import cache
from uuid import UUID

from sqlalchemy import select, update

from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.sql import among, chosen, id_rows
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.status import PENDING
from mailbbgun.tenants.models import ACTIVE, TENANTS
from mailbbgun.tenants.repo import suspended

_D, _M = DELIVERIES.c, MESSAGES.c
_HELD = (_D.status == PENDING, _D.lease_owner.is_(None), _D.next_attempt_at.is_(None))


def hold(database: Database, message_ids: Collection[UUID]) -> int:
    """Hold the due deliveries of messages whose tenant is suspended; return how many.

    They stay pending and are never due, until :func:`resume` makes them due. Raises
    :class:`DatabaseUnavailable`.
    """
    dialect = database.dialect
    keys: Mapping[UUID, UUID | None] = {}
    given = {"messages": id_rows(dialect, sorted(message_ids))}
    with database.statements() as statements:
        found = statements.ask(_holding(dialect), given)
        events = [log.event(tenant, message, identifier, Kind.HELD, {}) for identifier, message, tenant in found]
        if events:
            keys = dict(statements.ask(_key_ids(dialect), given))
        statements.last([log.appending(dialect, events)] if events else [])
    log.print_lines(events, [keys.get(message) for _, message, _ in found])
    return len(found)


@cache
def _key_ids(dialect: str) -> CompiledStatement:
    return CompiledStatement(select(_M.id, _M.key_id).where(among(dialect, _M.id, "messages")))


@cache
def _holding(dialect: str) -> CompiledStatement:
    # Only what is due: what is scheduled for later would lose its time.
    idle = (_D.status == PENDING, _D.lease_owner.is_(None), _D.next_attempt_at <= db_now())
    waiting = select(_D.id).where(among(dialect, _D.message_id, "messages"), *idle, suspended(_D.tenant_id))
    locked = waiting.order_by(_D.id).with_for_update().cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    changed = update(DELIVERIES).where(chosen(dialect, _D.id, locked)).values(next_attempt_at=None, published_at=None)
    return CompiledStatement(changed.returning(_D.id, _D.message_id, _D.tenant_id))


def resume(database: Database, limit: int) -> int:
    """Make up to ``limit`` held deliveries of active tenants due now; return how many. Writes no events.

    Raises :class:`DatabaseUnavailable`.
    """
    tenants = [tenant for (tenant,) in database.find(_active_with_held(), {})]
    if not tenants:
        return 0
    locked = select(_D.id).where(*_HELD, _D.tenant_id.in_(tenants)).limit(limit).with_for_update(skip_locked=True)
    freed = update(DELIVERIES).where(among(database.dialect, _D.id, "deliveries"), *_HELD)
    with database.write() as session:
        found = session.scalars(locked).all()
        given = {"deliveries": id_rows(database.dialect, found)}
        session.execute(freed.values(next_attempt_at=db_now()), given)
    return len(found)


@cache
def _active_with_held() -> CompiledStatement:
    """Return the search for active tenants with held mail.

    It begins with the tenants: it runs each second, and a suspended one may hold a million deliveries.
    """
    holding = select(_D.id).where(*_HELD, _D.tenant_id == TENANTS.c.id).exists()
    tenants = select(TENANTS.c.id).where(TENANTS.c.status == ACTIVE, holding)
    return CompiledStatement(tenants, of_all_tenants=True)
