"""Reports the health of accounts, from what workers have recorded in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import SecretUnreadable
from mailbbgun.database.crypto import Vault
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.models import SMTPAccount, SMTPCircuit

CLOSED, OPEN = CIRCUITS = ("closed", "open")


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """The health of an account.

    ``workers``: how many worker processes have its circuit open, and so send nothing through it;
    the first of them since ``since``. ``failures``: the most failures in a row in one process.
    ``reply``: what the server or the connection said last.
    """

    id: UUID
    setting_name: str
    enabled: bool
    circuit: str
    workers: int
    since: datetime | None
    failures: int
    reply: str | None
    used_today: int | None  # mails; None: not counted, or counted in Redis
    max_per_day: int | None
    password_readable: bool | None  # None: there is no password


def look(session: Session, vault: Vault, accounts: Sequence[SMTPAccount], *, counted_here: bool) -> list[AccountHealth]:
    """Return the health of each account, in their order.

    ``counted_here``: their mails are counted in the database, not in Redis.
    """
    account_ids = [account.id for account in accounts]
    circuits = repo.open_circuits(session, account_ids)
    used = repo.used_today(session, account_ids) if counted_here else None
    return [
        _health(account, circuits.get(account.id, ()), used, _readable(vault, account.smtp_password))
        for account in accounts
    ]


def _health(
    account: SMTPAccount, open_: Sequence[SMTPCircuit], used: Mapping[UUID, int] | None, readable: bool | None
) -> AccountHealth:
    return AccountHealth(
        id=account.id,
        setting_name=account.setting_name,
        enabled=account.enabled,
        circuit=OPEN if open_ else CLOSED,
        workers=len(open_),
        since=open_[-1].opened_at if open_ else None,
        failures=max((one.failures for one in open_), default=0),
        reply=open_[0].reply if open_ else None,
        used_today=None if used is None or not account.limits.any else used.get(account.id, 0),
        max_per_day=account.max_per_day,
        password_readable=readable,
    )


def _readable(vault: Vault, token: str | None) -> bool | None:
    if token is None:
        return None
    try:
        vault.decrypt(token)
    except SecretUnreadable:
        return False
    return True
