"""Queries on Slack accounts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from mailbbgun.slack_accounts.models import SlackAccount


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[SlackAccount], int, UUID | None]:
    """Return a page of a tenant's accounts, newest first, their number, and the last id if more follow."""
    found = select(SlackAccount).where(SlackAccount.tenant_id == tenant_id)
    found = found if after is None else found.where(SlackAccount.id < after)
    rows = session.scalars(found.order_by(SlackAccount.id.desc()).offset(offset).limit(limit + 1)).all()
    shown = rows[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(rows) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many accounts a tenant has."""
    return (
        session.scalar(select(func.count()).select_from(SlackAccount).where(SlackAccount.tenant_id == tenant_id)) or 0
    )


def account(session: Session, tenant_id: UUID, account_id: UUID) -> SlackAccount | None:
    """Return an account of a tenant; None if it has no such account."""
    return session.scalar(
        select(SlackAccount).where(SlackAccount.tenant_id == tenant_id, SlackAccount.id == account_id)
    )


def called(session: Session, tenant_id: UUID, name_or_id: str) -> SlackAccount | None:
    """Return the account of a tenant with this id or name; None if there is none."""
    with suppress(ValueError):
        if found := account(session, tenant_id, UUID(name_or_id)):
            return found
    return session.scalar(
        select(SlackAccount).where(SlackAccount.tenant_id == tenant_id, SlackAccount.name == name_or_id)
    )


def default(session: Session, tenant_id: UUID) -> SlackAccount | None:
    """Return a tenant's default account; None if it has none."""
    return session.scalar(select(SlackAccount).where(SlackAccount.tenant_id == tenant_id, SlackAccount.is_default))


def of_any_tenant(session: Session, account_id: UUID) -> SlackAccount | None:
    """Return an account by its id, for workers, which serve all tenants."""
    return session.scalar(select(SlackAccount).where(SlackAccount.id == account_id))


def change(session: Session, tenant_id: UUID, account_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of an account."""
    its = (SlackAccount.tenant_id == tenant_id, SlackAccount.id == account_id)
    session.execute(update(SlackAccount).where(*its).values(**values).execution_options(synchronize_session=False))


def clear_default(session: Session, tenant_id: UUID) -> None:
    """Leave a tenant without a default account."""
    its = (SlackAccount.tenant_id == tenant_id, SlackAccount.is_default)
    session.execute(
        update(SlackAccount).where(*its).values(is_default=False).execution_options(synchronize_session=False)
    )


def remove(session: Session, tenant_id: UUID, account_id: UUID) -> bool:
    """Delete an account; return whether it existed."""
    its = (SlackAccount.tenant_id == tenant_id, SlackAccount.id == account_id)
    gone = delete(SlackAccount).where(*its).returning(SlackAccount.id)
    return session.scalar(gone.execution_options(synchronize_session=False)) is not None
