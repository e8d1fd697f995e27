"""Queries over SMTP accounts, each of one tenant."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from mailbbgun.base.db import db_now
from mailbbgun.smtp_accounts.models import SMTPAccount, SMTPCircuit, SMTPPace


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
