"""The account cache of one worker process: which tenants are suspended, and what their accounts are.

Read again each second; passwords are decrypted once.
"""

import logging
import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import NotPermitted, SecretUnreadable
from mailbbgun.core.net import Allowed, Guard, hostname
from mailbbgun.database.crypto import Vault
from mailbbgun.limits.permits import SendingLimits
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.account import SECURITIES, Account
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo as tenants

FRESH_SECONDS = 0.9  # how old what is known of a tenant may be
MOST_DECRYPTED = 10_000  # passwords that are remembered, those that were replaced among them
IDLE_SECONDS = 60.0  # a tenant that sent nothing for so long is no longer looked at

log = logging.getLogger("mailbbgun.accounts")


@dataclass(frozen=True, slots=True)
class TenantAccounts:
    """What is known of one tenant: whether it has accounts at all, and those that are enabled."""

    any: bool
    enabled: tuple[Account, ...]


EMPTY = TenantAccounts(False, ())


class AccountCache:
    """Thread-safe."""

    def __init__(self, vault: Vault, settings: Settings) -> None:
        self._vault = vault
        self._ca_file = settings.SMTP_CA_FILE or None
        self._guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
        self._lock = threading.Lock()
        self._tenants: dict[UUID, TenantAccounts] = {}
        self._read: dict[UUID, float] = {}  # tenant → when its page was read; monotonic seconds
        self._used: dict[UUID, float] = {}
        self._decrypted: dict[str, str | None] = {}  # token → password, of accounts that are in use
        self.suspended: frozenset[UUID] = frozenset()

    def accounts_of(self, session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, TenantAccounts]:
        """Return what is known of these tenants; of those not looked at lately ask, in one statement."""
        now = time.monotonic()
        with self._lock:
            stale = [one for one in tenant_ids if now - self._read.get(one, -math.inf) >= FRESH_SECONDS]
            self._used |= dict.fromkeys(tenant_ids, now)
            self._look(session, stale, now)
            return {one: self._tenants[one] for one in tenant_ids}

    def known(self) -> list[TenantAccounts]:
        """Return what is known of all tenants in use."""
        with self._lock:
            return list(self._tenants.values())

    def refresh(self, session: Session, waiting: Collection[UUID]) -> None:
        """Look again at who is suspended and at the tenants in use, those whose mail is ``waiting`` among them."""
        now = time.monotonic()
        self.suspended = frozenset(tenants.suspended_ones(session))
        with self._lock:
            self._used |= dict.fromkeys(waiting, now)
            for one in [one for one, used in self._used.items() if now - used > IDLE_SECONDS]:
                del self._used[one]
                self._read.pop(one, None)
                self._tenants.pop(one, None)
            self._look(session, list(self._used), now)
            if len(self._decrypted) > MOST_DECRYPTED:
                self._decrypted.clear()

    def _look(self, session: Session, tenant_ids: Sequence[UUID], now: float) -> None:
        if tenant_ids:
            found = repo.of_tenants(session, tenant_ids)
            self._tenants |= {one: self._tenant_accounts(found.get(one, ())) for one in tenant_ids}
            self._read |= dict.fromkeys(tenant_ids, now)

    def _tenant_accounts(self, rows: Sequence[SMTPAccount]) -> TenantAccounts:
        return TenantAccounts(bool(rows), tuple(self._sound(row) for row in rows if row.enabled)) if rows else EMPTY

    def _sound(self, row: SMTPAccount) -> Account:
        """Return an account, or one that takes no mail where a value in its row cannot be: it must not end the worker of all tenants."""
        try:
            return self._account(row)
        except (NotPermitted, ValueError, KeyError, TypeError) as error:
            log.error("account_unusable", extra={"account_id": row.id, "tenant_id": row.tenant_id, "error": str(error)})
            return Account(row.id, row.setting_name, None)

    def _account(self, row: SMTPAccount) -> Account:
        password = self._password(row)
        return Account(
            id=row.id,
            name=row.setting_name,
            endpoint=None if password is None else endpoint(row, password, self._guard, self._ca_file),
            from_email=row.from_email.lower() if row.from_email else None,
            priority=row.priority,
            weight=max(1, row.weight),
            max_connections=row.max_connections,
            limits=SendingLimits(row.max_per_second, row.max_per_minute, row.max_per_day, row.send_interval),
            max_recipients=row.max_recipients_per_message,
            envelope_from=row.envelope_from,
            domains=tuple(row.recipient_domains),
        )

    def _password(self, row: SMTPAccount) -> str | None:
        """Return the password, empty where there is none; None where it cannot be read, which is said once."""
        token = row.smtp_password
        if token is None:
            return ""
        if token not in self._decrypted:
            try:
                self._decrypted[token] = self._vault.decrypt(token)
            except SecretUnreadable as error:
                log.error(
                    "password_unreadable", extra={"account_id": row.id, "tenant_id": row.tenant_id, "error": str(error)}
                )
                self._decrypted[token] = None
        return self._decrypted[token]


def endpoint(row: SMTPAccount, password: str, guard: Guard, ca_file: str | None) -> Endpoint:
    """Return where an account's mail goes."""
    return Endpoint(
        hostname(row.smtp_host),
        row.smtp_port,
        SECURITIES[row.security_protocol],
        username=row.smtp_username,
        password=password,
        ca_file=ca_file,
        ca_data=row.ca_certificate,
        guard=guard,
    )
