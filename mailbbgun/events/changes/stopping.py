"""Ends pending deliveries to recipients that are suppressed."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, false, or_, select, true, update
from sqlalchemy.orm import Session

from mailbbgun.database.db import ascii_lower, db_now
from mailbbgun.database.texts import domain_of
from mailbbgun.events import log
from mailbbgun.events.changes.record import sum_up
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.status import ERROR, PENDING

_D, _M = DELIVERIES.c, MESSAGES.c


class Stopped(NamedTuple):
    """How many deliveries ended now, and how many a worker has in hand, so that they may still arrive."""

    ended: int
    in_hand: int


def stop(
    session: Session, tenant_id: UUID, addresses: Collection[str], domains: Collection[str], *, test: bool
) -> Stopped:
    """End the pending deliveries of a tenant to these recipients that no worker has claimed. The caller commits.

    ``addresses`` are in lower case, ``domains`` in A-labels. ``test``: of test messages; else of
    others. A claim that is under way is waited for: it then counts as in hand.
    """
    its = _D.message_id.in_(select(_M.id).where(_M.tenant_id == tenant_id, _M.test == (true() if test else false())))
    whom: list[ColumnElement[bool]] = []
    if addresses:
        whom.append(_is_one_of(addresses))
    if domains:
        whom.append(domain_of(_D.address).in_(sorted(domains)))
    if not whom:
        return Stopped(0, 0)
    # In order of id, as claims lock, so that the two cannot deadlock.
    pending = (
        select(_D.id, _D.lease_owner)
        .where(_D.tenant_id == tenant_id, _D.status == PENDING, or_(*whom), its)
        .order_by(_D.id)
        .with_for_update(of=DELIVERIES)
    )
    found = session.execute(pending).all()
    idle = [identifier for identifier, owner in found if owner is None]
    if idle:
        _end(session, tenant_id, idle, its, tests_only=test)
    return Stopped(len(idle), len(found) - len(idle))


def _is_one_of(addresses: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that a delivery goes to one of these, in a form that uses the index on recipients."""
    domains = {one.rpartition("@")[2] for one in addresses}
    return domain_of(_D.address).in_(sorted(domains)) & ascii_lower(_D.address).in_(sorted(addresses))


def _end(
    session: Session, tenant_id: UUID, idle: Collection[UUID], its: ColumnElement[bool], *, tests_only: bool
) -> None:
    ended = {"status": ERROR, "reason": Reason.SUPPRESSED.value, "next_attempt_at": None, "published_at": None}
    statement = (
        update(DELIVERIES)
        .where(_D.id.in_(idle), _D.tenant_id == tenant_id, its)
        .values(**ended, finished_at=db_now())
        .returning(_D.id, _D.message_id)
    )
    changed = session.execute(statement).all()
    events = [log.event(tenant_id, message, identifier, Kind.SUPPRESSED, {}) for identifier, message in changed]
    log.append(session, events)
    keys = sum_up(session, [message for _, message in changed], tenant_id, tests_only)
    log.log_after_commit(session, events, [keys.get(message) for _, message in changed])
