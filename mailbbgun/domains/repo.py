"""Queries on sending domains and their DKIM keys."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database
from mailbbgun.domains.models import DKIMKey, SendingDomain


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[SendingDomain], int, UUID | None]:
    """Return a page of a tenant's domains, newest first.

    Also returns the number of all its domains, and the last id of the page if more follow.
    """
    statement = select(SendingDomain).where(SendingDomain.tenant_id == tenant_id)
    statement = statement.order_by(SendingDomain.id.desc()).offset(offset).limit(limit + 1)
    found = session.scalars(statement if after is None else statement.where(SendingDomain.id < after)).all()
    shown = found[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many domains a tenant has."""
    return (
        session.scalar(select(func.count()).select_from(SendingDomain).where(SendingDomain.tenant_id == tenant_id)) or 0
    )


def domain(session: Session, tenant_id: UUID, called: str | UUID) -> SendingDomain | None:
    """Return a tenant's domain of this name or id; None if it has none."""
    its = SendingDomain.id == called if isinstance(called, UUID) else SendingDomain.name == called
    statement = select(SendingDomain).where(SendingDomain.tenant_id == tenant_id, its)
    return session.scalar(statement.execution_options(populate_existing=True))


def make_local(session: Session, tenant_id: UUID, domain_id: UUID, here: bool, for_all: bool) -> None:
    """Deliver the mail of a domain here, or no more: see :class:`SendingDomain`."""
    its = (SendingDomain.tenant_id == tenant_id, SendingDomain.id == domain_id)
    statement = update(SendingDomain).where(*its).values(local=here, local_for_all=for_all)
    session.execute(statement.execution_options(synchronize_session=False))


def signed_by_another(session: Session, tenant_id: UUID, name: str) -> bool:
    """Return whether a tenant other than this one has a key that signs mail of a domain."""
    its = (SendingDomain.id == DKIMKey.domain_id, SendingDomain.name == name, SendingDomain.tenant_id != tenant_id)
    signs = (DKIMKey.active_from.is_not(None), DKIMKey.retired_at.is_(None))
    return session.scalar(select(exists().where(*its, *signs))) is True


def set_policy(session: Session, tenant_id: UUID, domain_id: UUID, policy: str) -> None:
    """Set what is done about mail to a domain that fails its verification: see :class:`SendingDomain`."""
    its = (SendingDomain.tenant_id == tenant_id, SendingDomain.id == domain_id)
    statement = update(SendingDomain).where(*its).values(policy=policy)
    session.execute(statement.execution_options(synchronize_session=False))


def keys(session: Session, tenant_id: UUID, domain_ids: Collection[UUID]) -> Mapping[UUID, list[DKIMKey]]:
    """Return the keys of these domains of a tenant, newest first."""
    its = (DKIMKey.tenant_id == tenant_id, DKIMKey.domain_id.in_(domain_ids))
    found: dict[UUID, list[DKIMKey]] = defaultdict(list)
    statement = select(DKIMKey).where(*its).order_by(DKIMKey.created_at.desc(), DKIMKey.selector)
    for key in session.scalars(statement.execution_options(populate_existing=True)):
        found[key.domain_id].append(key)
    return found


def remove(session: Session, tenant_id: UUID, domain_id: UUID) -> None:
    """Delete a domain and its keys."""
    its = (DKIMKey.tenant_id == tenant_id, DKIMKey.domain_id == domain_id)
    session.execute(delete(DKIMKey).where(*its).execution_options(synchronize_session=False))
    its_own = (SendingDomain.tenant_id == tenant_id, SendingDomain.id == domain_id)
    session.execute(delete(SendingDomain).where(*its_own).execution_options(synchronize_session=False))


def remove_key(session: Session, tenant_id: UUID, key_id: UUID) -> None:
    """Delete a key."""
    its = (DKIMKey.tenant_id == tenant_id, DKIMKey.id == key_id)
    session.execute(delete(DKIMKey).where(*its).execution_options(synchronize_session=False))


def activate(session: Session, tenant_id: UUID, key: DKIMKey, now: datetime) -> None:
    """Let a key sign from now on, and retire the key of its domain and algorithm that signed before."""
    of_domain = (DKIMKey.tenant_id == tenant_id, DKIMKey.domain_id == key.domain_id)
    before = (DKIMKey.algorithm == key.algorithm, DKIMKey.active_from.is_not(None), DKIMKey.retired_at.is_(None))
    for which, values in (
        ((*before, DKIMKey.id != key.id), {"retired_at": now}),
        ((DKIMKey.id == key.id,), {"active_from": now}),
    ):
        statement = update(DKIMKey).where(*of_domain, *which).values(**values)
        session.execute(statement.execution_options(synchronize_session=False))


def note_findings(
    session: Session, tenant_id: UUID, domain_id: UUID, found: Sequence[Mapping[str, Any]], now: datetime
) -> None:
    """Keep what the DNS says of a domain."""
    its = (SendingDomain.tenant_id == tenant_id, SendingDomain.id == domain_id)
    values = {"checked_at": now, "findings": [dict(one) for one in found]}
    session.execute(update(SendingDomain).where(*its).values(**values).execution_options(synchronize_session=False))


class KeyRow(NamedTuple):
    """What decides which messages a key signs."""

    tenant_id: UUID
    domain: str
    id: UUID
    selector: str
    algorithm: str
    active_from: datetime
    retired_at: datetime | None


def signing_keys(session: Session, tenant_ids: Collection[UUID]) -> Sequence[KeyRow]:
    """Return the keys of these tenants that sign messages, without the private keys."""
    columns = (DKIMKey.id, DKIMKey.selector, DKIMKey.algorithm, DKIMKey.active_from, DKIMKey.retired_at)
    statement = (
        select(SendingDomain.tenant_id, SendingDomain.name, *columns)
        .join(DKIMKey, DKIMKey.domain_id == SendingDomain.id)
        .where(SendingDomain.tenant_id.in_(tenant_ids), DKIMKey.active_from.is_not(None))
    )
    rows = session.execute(statement)
    return [KeyRow(*row) for row in rows]  # type: ignore[arg-type]  # the statement leaves out what is not active yet


def private_keys(session: Session, key_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Return the encrypted private keys of these keys; keys that are gone are left out."""
    found = session.execute(select(DKIMKey.id, DKIMKey.private_key).where(DKIMKey.id.in_(key_ids)))
    return {row.id: row.private_key for row in found}


_ANY_KEY = CompiledStatement(select(exists().where(DKIMKey.active_from.is_not(None))), of_all_tenants=True)


def any_key(database: Database) -> bool:
    """Return whether any tenant has a key that signs. Raises :class:`DatabaseUnavailable`."""
    return bool(database.find(_ANY_KEY, {})[0][0])


def unseen(
    session: Session, now: datetime, waits: Sequence[tuple[timedelta, timedelta]], limit: int
) -> Sequence[SendingDomain]:
    """Return domains of all tenants with a key whose record was not seen yet, the longest unasked first.

    ``waits`` are pairs: so long after a key was made, the DNS is asked again so long after the last time.
    """
    pending = (DKIMKey.domain_id == SendingDomain.id, DKIMKey.active_from.is_(None))
    asked = func.coalesce(SendingDomain.checked_at, SendingDomain.created_at)
    young = [(exists().where(*pending, DKIMKey.created_at > now - age), now - rest) for age, rest in waits]
    due = or_(*(young & (asked <= before) for young, before in young))
    return session.scalars(select(SendingDomain).where(due).order_by(asked, SendingDomain.id).limit(limit)).all()


def claim_check(session: Session, domain: SendingDomain, now: datetime) -> bool:
    """Note that the DNS is asked about a domain now; return whether nobody else has done so meanwhile."""
    same = (
        SendingDomain.checked_at.is_(None)
        if domain.checked_at is None
        else SendingDomain.checked_at == domain.checked_at
    )
    its = (SendingDomain.tenant_id == domain.tenant_id, SendingDomain.id == domain.id, same)
    statement = update(SendingDomain).where(*its).values(checked_at=now).returning(SendingDomain.id)
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def remove_retired(session: Session, before: datetime) -> Sequence[str]:
    """Delete keys of all tenants that were replaced before this time; return their selectors."""
    statement = delete(DKIMKey).where(DKIMKey.retired_at < before).returning(DKIMKey.selector)
    return session.scalars(statement.execution_options(synchronize_session=False)).all()
