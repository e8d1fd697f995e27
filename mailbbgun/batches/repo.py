"""Queries over batches and the statuses of their messages."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, true, update
from sqlalchemy.orm import Session

from mailbbgun.batches.models import BATCHES, Batch
from mailbbgun.core.ids import first_id_at
from mailbbgun.database.db import db_now
from mailbbgun.messages.models import MESSAGES
from mailbbgun.messages.status import PENDING

#: Batches that one statement deletes, at most.
FORGOTTEN = 200

_SHOWN = (
    Batch.id,
    Batch.created_at,
    Batch.subject,
    Batch.messages,
    Batch.refused,
    Batch.test,
    Batch.first_id,
    Batch.last_id,
    Batch.cancelled_at,
)


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None, tests_only: bool = False
) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of a tenant's batches, newest first, how many there are, and the last id if there are more.

    ``tests_only``, here and below: only batches of test messages.
    """
    whose = _whose(tenant_id, tests_only)
    count = session.scalar(select(func.count()).select_from(Batch).where(*whose)) or 0
    if not limit:
        return [], count, None
    older = [] if after is None else [Batch.id < after]
    statement = select(*_SHOWN).where(*whose, *older).order_by(Batch.id.desc()).offset(offset).limit(limit + 1)
    found = [dict(row) for row in session.execute(statement).mappings()]
    shown = _with_statuses(session, tenant_id, found[:limit], tests_only)
    return shown, count, shown[-1]["id"] if len(found) > limit else None


def details(session: Session, tenant_id: UUID, batch_id: UUID, *, tests_only: bool = False) -> dict[str, Any] | None:
    """Return a tenant's batch; None if there is none."""
    whose = _whose(tenant_id, tests_only)
    found = session.execute(select(*_SHOWN).where(*whose, Batch.id == batch_id)).mappings().one_or_none()
    return None if found is None else _with_statuses(session, tenant_id, [dict(found)], tests_only)[0]


def known_sources(session: Session, tenant_id: UUID, prefix: str) -> set[str]:
    """Return the sources of a tenant's batches that begin with ``prefix``, which has no characters but letters, digits
    and colons.
    """
    its = (Batch.tenant_id == tenant_id, Batch.source.startswith(prefix, autoescape=True))
    return {source for source in session.scalars(select(Batch.source).where(*its)) if source is not None}


def forget_old(session: Session, days: int, limit: int = FORGOTTEN) -> int:
    """Delete up to ``limit`` batches of all tenants that are older than so many days and have no message any more.

    Return how many. Call it again until it returns less.
    """
    now: datetime = session.execute(select(db_now())).scalar_one()
    its, message = BATCHES.c, MESSAGES.c
    between = message.id.between(its.first_id, its.last_id)
    left = exists().where(message.tenant_id == its.tenant_id, between, message.batch_id == its.id)
    old = select(its.id).where(its.id < first_id_at(now - timedelta(days=days)), ~left).order_by(its.id).limit(limit)
    return len(session.execute(delete(BATCHES).where(its.id.in_(old)).returning(its.id)).all())


def mark_cancelled(session: Session, tenant_id: UUID, batch_id: UUID, *, tests_only: bool = False) -> None:
    """Note that a batch was cancelled, unless it was before."""
    tests = [BATCHES.c.test == true()] if tests_only else []
    its = (BATCHES.c.tenant_id == tenant_id, BATCHES.c.id == batch_id, *tests)
    session.execute(update(BATCHES).where(*its, BATCHES.c.cancelled_at.is_(None)).values(cancelled_at=db_now()))


def of_batch(batch: Mapping[str, Any], tenant_id: UUID, tests_only: bool) -> ColumnElement[bool]:
    """Return the condition that a message came with a batch: by the index on a tenant's ids."""
    its = MESSAGES.c
    tests = [its.test == true()] if tests_only else []
    between = its.id.between(batch["first_id"], batch["last_id"])
    return and_(its.tenant_id == tenant_id, between, its.batch_id == batch["id"], *tests)


def _with_statuses(
    session: Session, tenant_id: UUID, found: Sequence[dict[str, Any]], tests_only: bool
) -> list[dict[str, Any]]:
    """Add to each batch how many of its messages have each status."""
    statuses: dict[UUID, dict[str, int]] = defaultdict(dict)
    for batch in found:
        counted = select(MESSAGES.c.status, func.count()).where(of_batch(batch, tenant_id, tests_only))
        for status, n in session.execute(counted.group_by(MESSAGES.c.status)):
            statuses[batch["id"]][status] = n
    return [
        {**batch, "statuses": (its := statuses[batch["id"]]), "progress": _progress(batch["messages"], its)}
        for batch in found
    ]


def _progress(messages: int, statuses: Mapping[str, int]) -> float:
    """Return the part of a batch that has ended. Messages that retention deleted have ended, too."""
    return round(1 - statuses.get(PENDING, 0) / messages, 4) if messages else 1.0


def _whose(tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    return [Batch.tenant_id == tenant_id, *([Batch.test == true()] if tests_only else [])]
