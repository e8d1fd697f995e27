"""The accounts of tenants as one worker process knows them: read again each second, passwords decrypted once."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.base.crypto import Vault
from mailbbgun.base.errors import SecretUnreadable
from mailbbgun.base.net import Allowed, Guard, hostname
from mailbbgun.base.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.account import SECURITIES, Account
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.pace import Limits

FRESH_SECONDS = 0.9  # how old what is known of a tenant may be
MOST_KNOWN = 10_000  # tenants

log = logging.getLogger("mailbbgun.accounts")


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of one tenant: whether it has accounts at all, and those that are enabled."""

    any: bool
    enabled: tuple[Account, ...]


EMPTY = Page(False, ())


class Book:
    """Used by the one thread that claims."""

    def __init__(self, vault: Vault, settings: Settings) -> None:
        self._vault = vault
        self._ca_file = settings.SMTP_CA_FILE or None
        self._guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
        self._pages: dict[UUID, tuple[float, Page]] = {}
        self._decrypted: dict[str, str | None] = {}  # token → password, of accounts that are in use

    def pages(self, session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, Page]:
        """Return what is known of these tenants, asking at most once a second for each, for all of them in one statement."""
        now = time.monotonic()
        stale = [one for one in tenant_ids if one not in self._pages or now - self._pages[one][0] >= FRESH_SECONDS]
        if stale:
            if len(self._pages) > MOST_KNOWN:
                self._pages.clear()
                self._decrypted.clear()
            found = repo.of_tenants(session, stale)
            self._pages |= {one: (now, self._page(found.get(one, ()))) for one in stale}
        return {one: self._pages[one][1] for one in tenant_ids}

    def _page(self, rows: Sequence[SMTPAccount]) -> Page:
        return Page(bool(rows), tuple(self._account(row) for row in rows if row.enabled)) if rows else EMPTY

    def _account(self, row: SMTPAccount) -> Account:
        password = self._password(row)
        return Account(
            id=row.id,
            name=row.setting_name,
            endpoint=None if password is None else endpoint(row, password, self._guard, self._ca_file),
            from_email=row.from_email.lower() if row.from_email else None,
            priority=row.priority,
            weight=row.weight,
            max_connections=row.max_connections,
            limits=Limits(row.max_per_second, row.max_per_minute, row.max_per_day, row.send_interval),
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
                log.error("password_unreadable", extra={"account_id": row.id, "tenant_id": row.tenant_id, "error": str(error)})
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
