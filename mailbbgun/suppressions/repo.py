"""Queries over suppressions. ``test``: those of test keys, or those of all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, bindparam, delete, false, func, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.ids import new_id
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.suppressions.models import SUPPRESSIONS, Suppression
from mailbbgun.tenants.models import TENANTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be suppressed: a target (``targets.py``), why, and until when (None: for ever)."""

    target: str
    reason: str
    expires_at: datetime | None = None


def of(tenant_id: UUID, test: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a suppression is the tenant's, and for test messages or for others."""
    return Suppression.tenant_id == tenant_id, Suppression.test == (true() if test else false())


def add(session: Session, tenant_id: UUID, test: bool, entries: Sequence[Entry]) -> int:
    """Add entries with different targets, or change the reason and end of those that exist; return how many are new.

    The caller commits.
    """
    targets = [one.target for one in entries]
    known = set(
        session.scalars(select(Suppression.target).where(*of(tenant_id, test), Suppression.target.in_(targets)))
    )
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(SUPPRESSIONS)
    changed = {name: statement.excluded[name] for name in ("reason", "expires_at")}
    statement = statement.on_conflict_do_update(index_elements=["tenant_id", "target", "test"], set_=changed)
    now = datetime.now(UTC)
    # In the order of targets, so that two requests cannot deadlock.
    values = [
        {"id": new_id(), "tenant_id": tenant_id, "test": test, "created_at": now}
        | {"target": one.target, "reason": one.reason, "expires_at": one.expires_at}
        for one in sorted(entries, key=lambda one: one.target)
    ]
    session.execute(statement, values)
    return len(entries) - len(known)


def suppressing(dialect: str, tenant_id: UUID, test: bool, entry: Entry) -> list[StatementStep]:
    """Return the steps that add an entry for ever, for a transaction of compiled statements.

    An entry that exists for ever stays as it is: its reason may be a person's.
    """
    values = {"id": new_id(), "tenant_id": tenant_id, "test": test, "created_at": datetime.now(UTC)}
    values |= {"target": entry.target, "reason": entry.reason}
    return [StatementStep(_suppressed(dialect), [values]), StatementStep(_NOTED, [{"tenant": tenant_id}])]


@cache
def _suppressed(dialect: str) -> CompiledStatement:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = ("id", "tenant_id", "test", "created_at", "target", "reason", "expires_at")
    statement: Any = insert(SUPPRESSIONS).values({column: bindparam(column) for column in columns})
    changed = {name: statement.excluded[name] for name in ("reason", "expires_at")}
    return CompiledStatement(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "target", "test"], set_=changed, where=SUPPRESSIONS.c.expires_at.is_not(None)
        )
    )


_NOTED = CompiledStatement(
    update(TENANTS)
    .where(TENANTS.c.id == bindparam("tenant", type_=Uuid()), TENANTS.c.has_suppressions != true())
    .values(has_suppressions=True)
)


def note(session: Session, tenant_id: UUID) -> bool:
    """Note that the tenant has suppressions; return whether that is new. The caller commits."""
    statement = update(TENANTS).where(TENANTS.c.id == tenant_id, TENANTS.c.has_suppressions != true())
    return bool(session.scalars(statement.values(has_suppressions=True).returning(TENANTS.c.id)).all())


def one(session: Session, tenant_id: UUID, test: bool, suppression_id: UUID) -> Suppression | None:
    """Return a suppression; None if there is none."""
    return session.scalar(select(Suppression).where(*of(tenant_id, test), Suppression.id == suppression_id))


def by_target(session: Session, tenant_id: UUID, test: bool, target: str) -> Suppression | None:
    """Return the suppression of an address or a domain; None if there is none."""
    return session.scalar(select(Suppression).where(*of(tenant_id, test), Suppression.target == target))


def page(
    session: Session,
    tenant_id: UUID,
    test: bool,
    *,
    limit: int,
    offset: int,
    after: UUID | None,
    target: str | None = None,
    reason: str | None = None,
) -> tuple[Sequence[Suppression], int, UUID | None]:
    """Return a page of suppressions, newest first, how many match in all, and the last id if there are more."""
    its = [*of(tenant_id, test)]
    its += [] if target is None else [Suppression.target == target]
    its += [] if reason is None else [Suppression.reason == reason]
    count = session.scalar(select(func.count()).select_from(Suppression).where(*its)) or 0
    if not limit:
        return [], count, None
    older = [] if after is None else [Suppression.id < after]
    statement = select(Suppression).where(*its, *older).order_by(Suppression.id.desc()).offset(offset).limit(limit + 1)
    found = session.scalars(statement).all()
    shown = found[:limit]
    return shown, count, shown[-1].id if len(found) > limit else None


def remove(session: Session, tenant_id: UUID, test: bool, suppression_id: UUID) -> bool:
    """Remove a suppression; return whether there was one. The caller commits."""
    statement = delete(Suppression).where(*of(tenant_id, test), Suppression.id == suppression_id)
    return bool(session.scalars(statement.returning(Suppression.id)).all())


def forget_expired(session: Session, most: int) -> int:
    """Delete up to ``most`` expired suppressions of all tenants; return how many. The caller commits."""
    found = select(SUPPRESSIONS.c.id).where(SUPPRESSIONS.c.expires_at <= db_now()).limit(most)
    gone = session.scalars(delete(SUPPRESSIONS).where(SUPPRESSIONS.c.id.in_(found)).returning(SUPPRESSIONS.c.id))
    return len(gone.all())
