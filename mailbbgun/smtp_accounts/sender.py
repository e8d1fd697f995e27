"""Decides the senders of mail through SMTP accounts.

That is: the From of messages that name none, the addresses that From may have, and the sender of a
test mail.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from email.utils import parseaddr
from typing import Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.addresses import address
from mailbbgun.core.caller import Identity
from mailbbgun.smtp_accounts import repo


class SenderFields(Protocol):
    """The fields of an account that this file needs."""

    @property
    def from_email(self) -> str | None:
        """The address or domain that may be From; None: any."""

    @property
    def from_name(self) -> str | None:
        """The display name beside ``from_email``."""

    @property
    def is_default(self) -> bool:
        """Whether messages that name no From get the one of this account."""

    @property
    def enabled(self) -> bool:
        """Whether mail leaves through the account."""


def identities(session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, Identity]:
    """Return the sender identity of each of these tenants that has accounts."""
    found: dict[UUID, list[SenderFields]] = defaultdict(list)
    for row in repo.senders(session, tenant_ids):
        found[row.tenant_id].append(row)
    return {tenant_id: identity(accounts) for tenant_id, accounts in found.items()}


def identity(accounts: Iterable[SenderFields]) -> Identity:
    """Return the sender identity of a tenant with these accounts.

    A default account gives its From even while it is disabled: it says who writes, not where the
    mail leaves. While no account is enabled, From may be anything, and the mail waits for an
    account.
    """
    default, enabled = None, set()
    for account in accounts:
        if account.is_default and account.from_email and "@" in account.from_email:
            default = mailbox(account.from_name or "", account.from_email)
        if account.enabled:
            enabled.add(account.from_email)
    allowed = frozenset(one.lower() for one in enabled if one is not None)
    return Identity(default, None if None in enabled or not enabled else allowed)


def mailbox(name: str, spec: str) -> str:
    """Return name and address as a mailbox (RFC 5322 §3.4); the name may hold any characters."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{spec}>' if name else spec


def test_mail_sender(account: SenderFields, username: str | None, default_from: str) -> tuple[str, str]:
    """Return the name and the address in From of a test mail that the server should accept."""
    if account.from_email:
        return (
            account.from_name or "",
            account.from_email if "@" in account.from_email else f"noreply@{account.from_email}",
        )
    try:
        return account.from_name or "", address(username or "")
    except ValueError:  # many user names are not addresses
        return parseaddr(default_from)
