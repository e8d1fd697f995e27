"""Queries on SMTP accounts, the mails counted for them, and their open circuits."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Uuid, column, delete, exists, func, insert, select, table, update
from sqlalchemy.orm import Session

from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, UTCDateTime, db_epoch, db_now
from mailbbgun.limits.models import PermitCount
from mailbbgun.limits.permits import DAY
from mailbbgun.smtp_accounts.models import SMTPAccount, SMTPCircuit

#: Seconds since its last heartbeat for which a worker is alive. As in deliver/workers.py, which
#: owns the table ``workers`` but is a room above this one, so it cannot be imported.
ALIVE_SECONDS = 30
_WORKERS = table("workers", column("id", Uuid()), column("beat_at", UTCDateTime()))


def of_tenants(session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, Sequence[SMTPAccount]]:
    """Return all accounts of each of these tenants. Tenants without accounts are left out."""
    found: dict[UUID, list[SMTPAccount]] = defaultdict(list)
    for account in session.scalars(
        select(SMTPAccount).where(SMTPAccount.tenant_id.in_(tenant_ids)).order_by(SMTPAccount.id)
    ):
        found[account.tenant_id].append(account)
    return found


def senders(session: Session, tenant_ids: Collection[UUID]) -> Sequence[Row[UUID, str | None, str | None, bool, bool]]:
    """Return the columns that ``sender.py`` needs, for all accounts of these tenants."""
    columns = (
        SMTPAccount.tenant_id,
        SMTPAccount.from_email,
        SMTPAccount.from_name,
        SMTPAccount.is_default,
        SMTPAccount.enabled,
    )
    return session.execute(select(*columns).where(SMTPAccount.tenant_id.in_(tenant_ids))).all() if tenant_ids else ()


_ANY_ACCOUNT = CompiledStatement(select(exists().where(SMTPAccount.enabled)), of_all_tenants=True)


def any_account(database: Database) -> bool:
    """Return whether any tenant has an enabled account. Raises :class:`DatabaseUnavailable`."""
    return bool(database.find(_ANY_ACCOUNT, {})[0][0])


def accounts(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[SMTPAccount], int, UUID | None]:
    """Return a page of a tenant's accounts, newest first.

    Also returns the number of all its accounts, and the last id of the page if more follow.
    """
    statement = (
        select(SMTPAccount)
        .where(SMTPAccount.tenant_id == tenant_id)
        .order_by(SMTPAccount.id.desc())
        .offset(offset)
        .limit(limit + 1)
    )
    found = session.scalars(statement if after is None else statement.where(SMTPAccount.id < after)).all()
    shown = found[:limit]
    return shown, count(session, tenant_id), shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many accounts a tenant has."""
    return session.scalar(select(func.count()).select_from(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id)) or 0


def account(session: Session, tenant_id: UUID, account_id: UUID) -> SMTPAccount | None:
    """Return an account of a tenant; None if it has no such account."""
    return session.scalar(select(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id))


def default(session: Session, tenant_id: UUID) -> SMTPAccount | None:
    """Return a tenant's default account; None if it has none."""
    return session.scalar(select(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.is_default))


def another_enabled(session: Session, tenant_id: UUID, account_id: UUID) -> bool:
    """Return whether a tenant has an enabled account besides this one."""
    others = (SMTPAccount.tenant_id == tenant_id, SMTPAccount.id != account_id, SMTPAccount.enabled)
    return bool(session.scalar(select(exists().where(*others))))


def change(session: Session, tenant_id: UUID, account_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of an account."""
    its = (SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id)
    session.execute(update(SMTPAccount).where(*its).values(**values).execution_options(synchronize_session=False))


def clear_default(session: Session, tenant_id: UUID) -> None:
    """Leave a tenant without a default account."""
    its = (SMTPAccount.tenant_id == tenant_id, SMTPAccount.is_default)
    session.execute(
        update(SMTPAccount).where(*its).values(is_default=False).execution_options(synchronize_session=False)
    )


def remove(session: Session, tenant_id: UUID, account_id: UUID) -> bool:
    """Delete an account, its counters and circuits; return whether it existed."""
    its = (SMTPAccount.tenant_id == tenant_id, SMTPAccount.id == account_id)
    if (
        session.scalar(
            delete(SMTPAccount).where(*its).returning(SMTPAccount.id).execution_options(synchronize_session=False)
        )
        is None
    ):
        return False
    session.execute(delete(PermitCount).where(PermitCount.account_id == account_id))
    session.execute(delete(SMTPCircuit).where(SMTPCircuit.account_id == account_id))
    return True


def used_today(session: Session, account_ids: Collection[UUID]) -> Mapping[UUID, int]:
    """Return how many mails each of these accounts was granted today.

    The day is of UTC by the database's clock. Accounts that asked for no mail today are left out.
    """
    counts = select(PermitCount.account_id, PermitCount.day, PermitCount.used, db_epoch())
    counted = session.execute(counts.where(PermitCount.account_id.in_(account_ids)))
    return {account_id: used for account_id, day, used, now in counted if day == now // DAY}


def open_circuits(session: Session, account_ids: Collection[UUID]) -> Mapping[UUID, Sequence[SMTPCircuit]]:
    """Return the circuits of these accounts that live workers hold open, the last opened first."""
    alive = select(_WORKERS.c.id).where(_WORKERS.c.beat_at.between(db_now(-ALIVE_SECONDS), db_now(ALIVE_SECONDS)))
    statement = select(SMTPCircuit).where(SMTPCircuit.account_id.in_(account_ids), SMTPCircuit.worker_id.in_(alive))
    found: dict[UUID, list[SMTPCircuit]] = defaultdict(list)
    for circuit in session.scalars(statement.order_by(SMTPCircuit.opened_at.desc())):
        found[circuit.account_id].append(circuit)
    return found


def report_circuits(session: Session, worker_id: UUID, open_: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Replace the open circuits of a worker by these: account → its ``failures`` and ``reply``."""
    mine = SMTPCircuit.worker_id == worker_id
    since = {
        row.account_id: row.opened_at
        for row in session.execute(select(SMTPCircuit.account_id, SMTPCircuit.opened_at).where(mine))
    }
    # Also deletes the circuits of killed workers, once their rows in ``workers`` are gone.
    session.execute(delete(SMTPCircuit).where(mine | SMTPCircuit.worker_id.not_in(select(_WORKERS.c.id))))
    now = session.scalars(select(db_now())).one()
    rows = [
        {"account_id": one, "worker_id": worker_id, "opened_at": since.get(one, now), **values}
        for one, values in open_.items()
    ]
    if rows:
        session.execute(insert(SMTPCircuit), rows)


def paused(session: Session) -> set[UUID]:
    """Return the accounts whose circuit is open in any worker."""
    return set(session.scalars(select(SMTPCircuit.account_id).distinct()))


def paused_by_workers(session: Session, most: int) -> list[tuple[UUID, str, int]]:
    """Return id and name of each account that worker processes have paused, and their number; ``most`` accounts.

    Those of dead workers count until their rows are gone.
    """
    number = func.count()
    counted = (
        select(SMTPAccount.id, SMTPAccount.setting_name, number)
        .join(SMTPCircuit, SMTPCircuit.account_id == SMTPAccount.id)
        .group_by(SMTPAccount.id, SMTPAccount.setting_name)
    )
    return [(one, name, n) for one, name, n in session.execute(counted.order_by(number.desc()).limit(most))]


def account_named(session: Session, tenant_id: UUID, setting_name: str) -> SMTPAccount | None:
    """Return the account of a tenant with this name; None if there is none."""
    return session.scalar(
        select(SMTPAccount).where(SMTPAccount.tenant_id == tenant_id, SMTPAccount.setting_name == setting_name)
    )
