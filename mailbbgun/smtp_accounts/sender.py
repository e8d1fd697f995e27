"""As whom mail of SMTP accounts is sent: the From of messages that name none, those that may be From, and the sender of a test mail."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from email.utils import parseaddr
from typing import Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.addresses import address
from mailbbgun.core.caller import Identity
from mailbbgun.smtp_accounts import repo


class Sender(Protocol):
    """What of an account is asked here."""

    @property
    def from_email(self) -> str | None:
        """An address, a domain, or None: any."""

    @property
    def from_name(self) -> str | None:
        """A display name."""

    @property
    def is_default(self) -> bool:
        """Whether messages without From get this one's."""

    @property
    def enabled(self) -> bool:
        """Whether it sends at all."""


def identities(session: Session, tenant_ids: Collection[UUID]) -> Mapping[UUID, Identity]:
    """Return as whom each of these tenants sends, of those that have accounts."""
    found: dict[UUID, list[Sender]] = defaultdict(list)
    for row in repo.senders(session, tenant_ids):
        found[row.tenant_id].append(row)
    return {tenant_id: identity(accounts) for tenant_id, accounts in found.items()}


def identity(accounts: Iterable[Sender]) -> Identity:
    """Return as whom these accounts of one tenant send.

    The default's From stays when it is switched off: it is who writes, and not which way the mail goes. With no account switched on,
    anything may be From: the mail waits for one.
    """
    default, enabled = None, set()
    for account in accounts:
        if account.is_default and account.from_email and "@" in account.from_email:
            default = as_written(account.from_name or "", account.from_email)
        if account.enabled:
            enabled.add(account.from_email)
    allowed = frozenset(one.lower() for one in enabled if one is not None)
    return Identity(default, None if None in enabled or not enabled else allowed)


def as_written(name: str, spec: str) -> str:
    """Return a mailbox as it may be written, whatever is in the name (RFC 5322 §3.4)."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{spec}>' if name else spec


def test_mail_sender(account: Sender, username: str | None, default_from: str) -> tuple[str, str]:
    """Return name and address that a test mail is from: such that the account's server should take it."""
    if account.from_email:
        return (
            account.from_name or "",
            account.from_email if "@" in account.from_email else f"noreply@{account.from_email}",
        )
    try:
        return account.from_name or "", address(username or "")
    except ValueError:  # many a user name is no address
        return parseaddr(default_from)
