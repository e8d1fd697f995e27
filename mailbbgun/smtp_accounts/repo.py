"""Queries over SMTP accounts and their circuits."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session

from mailbbgun.base.db import db_now
from mailbbgun.smtp_accounts.models import SMTPAccount, SMTPCircuit


def of_tenants(session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, Sequence[SMTPAccount]]:
    """Return all accounts of each of these tenants, of all tenants of a worker's at once; nothing for one that has none."""
    found: dict[UUID, list[SMTPAccount]] = defaultdict(list)
    for account in session.scalars(select(SMTPAccount).where(SMTPAccount.tenant_id.in_(tenant_ids)).order_by(SMTPAccount.id)):
        found[account.tenant_id].append(account)
    return found


def any_account(session: Session) -> bool:
    """Say whether any tenant has an account."""
    return bool(session.scalar(select(exists().where(SMTPAccount.enabled))))


def report_circuits(session: Session, worker_id: UUID, open_: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Write which accounts a worker leaves alone, in the place of what it wrote before: by account, ``failures`` and ``reply``."""
    session.execute(delete(SMTPCircuit).where(SMTPCircuit.worker_id == worker_id))
    if open_:
        rows = [{"account_id": account_id, "worker_id": worker_id, **values} for account_id, values in open_.items()]
        session.execute(insert(SMTPCircuit.__table__).values(opened_at=db_now()), rows)  # type: ignore[arg-type]  # a Table, which it is
