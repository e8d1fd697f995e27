"""Queries over SMTP accounts and their circuits."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from mailbbgun.base.db import db_now
from mailbbgun.smtp_accounts.models import SMTPAccount, SMTPCircuit, SMTPPace


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


def accounts(session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None) -> tuple[Sequence[SMTPAccount], int, UUID | None]:
    """Return a page of a tenant's accounts, newest first, how many there are, and the last id if there is more."""
    its = SMTPAccount.tenant_id == tenant_id
    count = session.scalar(select(func.count()).select_from(SMTPAccount).where(its)) or 0
    statement = select(SMTPAccount).where(its).order_by(SMTPAccount.id.desc()).offset(offset).limit(limit + 1)
    found = session.scalars(statement if after is None else statement.where(SMTPAccount.id < after)).all()
    shown = found[:limit]
    return shown, count, shown[-1].id if shown and len(found) > limit else None


def account(session: Session, tenant_id: UUID, account_id: UUID) -> SMTPAccount | None:
    """Return an account of a tenant; None if it has none such."""
    return session.scalar(select(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id))


def account_named(session: Session, tenant_id: UUID, setting_name: str) -> SMTPAccount | None:
    """Return the account a tenant calls so; None if it has none such."""
    return session.scalar(select(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.setting_name == setting_name))


def change_account(session: Session, tenant_id: UUID, account_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of an account."""
    its = (SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id)
    session.execute(update(SMTPAccount).where(*its).values(**values, updated_at=db_now()))


def remove_account(session: Session, tenant_id: UUID, account_id: UUID) -> None:
    """Delete an account, its password, and what is counted and known of it."""
    session.execute(delete(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id))
    session.execute(delete(SMTPPace).where(SMTPPace.account_id == account_id))
    session.execute(delete(SMTPCircuit).where(SMTPCircuit.account_id == account_id))
