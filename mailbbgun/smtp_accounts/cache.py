"""The account cache of a worker process: suspended tenants, and the accounts of tenants in use.

The worker reads it again each second. Each password is decrypted once.
"""

import logging
import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from mailbbgun.core.errors import NotPermitted, SecretUnreadable
from mailbbgun.core.net import Allowed, Guard, hostname
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.account import SECURITIES, Account
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo as tenants

#: Seconds for which the accounts of a tenant are fresh.
FRESH_SECONDS = 0.9
#: Most decrypted passwords in memory, including passwords that were replaced since.
MOST_DECRYPTED = 10_000
#: Seconds after which a tenant that sends nothing leaves the cache.
IDLE_SECONDS = 60.0

log = logging.getLogger("mailbbgun.accounts")


@dataclass(frozen=True, slots=True)
class TenantAccounts:
    """The accounts of one tenant. ``any``: it has accounts, enabled or not."""

    any: bool
    enabled: tuple[Account, ...]


#: A tenant without accounts.
EMPTY = TenantAccounts(False, ())


class AccountCache:
    """The cache. Thread-safe."""

    def __init__(self, vault: Vault, settings: Settings) -> None:
        self._vault = vault
        self._ca_file = settings.SMTP_CA_FILE or None
        self._guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
        self._lock = threading.Lock()
        self._accounts: dict[UUID, TenantAccounts] = {}
        self._read_at: dict[UUID, float] = {}  # tenant → when it was read; monotonic seconds
        self._used: dict[UUID, float] = {}
        self._decrypted: dict[str, str | None] = {}  # encrypted password → password; None: unreadable
        self.suspended: frozenset[UUID] = frozenset()

    def accounts_of(self, database: Database, tenant_ids: Collection[UUID]) -> Mapping[UUID, TenantAccounts]:
        """Return the accounts of these tenants.

        Reads those that are not fresh, in one statement. Raises :class:`DatabaseUnavailable`.
        """
        now = time.monotonic()
        with self._lock:
            self._used |= dict.fromkeys(tenant_ids, now)
            if stale := [one for one in tenant_ids if now - self._read_at.get(one, -math.inf) >= FRESH_SECONDS]:
                self._read_accounts(database, stale, now)
            return {one: self._accounts[one] for one in tenant_ids}

    def known(self) -> list[TenantAccounts]:
        """Return the accounts of all tenants in use."""
        with self._lock:
            return list(self._accounts.values())

    def refresh(self, database: Database, waiting: Collection[UUID]) -> None:
        """Read the suspended tenants and the accounts of all tenants in use again.

        ``waiting`` are tenants with pending mail; they count as in use. Raises
        :class:`DatabaseUnavailable`.
        """
        now = time.monotonic()
        self.suspended = frozenset(tenants.suspended_ids(database))
        with self._lock:
            self._used |= dict.fromkeys(waiting, now)
            for one in [one for one, used in self._used.items() if now - used > IDLE_SECONDS]:
                del self._used[one]
                self._read_at.pop(one, None)
                self._accounts.pop(one, None)
            self._read_accounts(database, list(self._used), now)
            if len(self._decrypted) > MOST_DECRYPTED:
                self._decrypted.clear()

    def _read_accounts(self, database: Database, tenant_ids: Sequence[UUID], now: float) -> None:
        if tenant_ids:
            with database.read() as session:
                found = repo.of_tenants(session, tenant_ids)
            self._accounts |= {one: self._accounts_in(found.get(one, ())) for one in tenant_ids}
            self._read_at |= dict.fromkeys(tenant_ids, now)

    def _accounts_in(self, rows: Sequence[SMTPAccount]) -> TenantAccounts:
        return (
            TenantAccounts(bool(rows), tuple(self._account_or_unusable(row) for row in rows if row.enabled))
            if rows
            else EMPTY
        )

    def _account_or_unusable(self, row: SMTPAccount) -> Account:
        """Return the account of a row; if a value in it is impossible, one that takes no mail.

        One bad row must not end the worker, which serves all tenants.
        """
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
            limits=row.limits,
            max_recipients=row.max_recipients_per_message,
            envelope_from=row.envelope_from,
            domains=tuple(row.recipient_domains),
        )

    def _password(self, row: SMTPAccount) -> str | None:
        """Return the password; an empty one if there is none; None if it is unreadable.

        An unreadable password is logged once.
        """
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
    """Return the server of an account, and how to connect and log in to it."""
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
