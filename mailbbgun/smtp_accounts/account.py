"""An SMTP account as deliveries see it.

Chooses the accounts that fit a mail, and their order. Pure.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mailbbgun.limits.permits import NONE, SendingLimits
from mailbbgun.smtp.endpoint import Endpoint, Security

NO_SECURITY, STARTTLS, TLS = PROTOCOLS = ("NONE", "STARTTLS", "TLS")
SECURITIES: dict[str, Security] = {NO_SECURITY: "none", STARTTLS: "starttls", TLS: "tls"}
PROTOCOL_OF = {security: protocol for protocol, security in SECURITIES.items()}


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    ``endpoint`` is None if the password cannot be decrypted. The account then takes no mail, and
    loses none.
    """

    id: UUID
    name: str
    endpoint: Endpoint | None
    from_email: str | None = None  # an address or a domain, in lower case; None: any
    priority: int = 10
    weight: int = 1
    max_connections: int = 5
    limits: SendingLimits = field(default=NONE)
    max_recipients: int | None = None  # in one transaction; None: no known limit
    envelope_from: str | None = None  # MAIL FROM of messages that name none; None: their From
    domains: tuple[str, ...] = ()  # in lower case; *.example.com excludes example.com itself

    def fits(self, sender: str, domain: str) -> bool:
        """Return whether the account takes mail from this address to this domain (lower case)."""
        return self._may_send_as(sender) and (
            not self.domains or any(_matches(domain, pattern) for pattern in self.domains)
        )

    def _may_send_as(self, sender: str) -> bool:
        return self.from_email is None or self.from_email in (sender, sender.rpartition("@")[2])


def ranked(accounts: Iterable[Account], random: Callable[[], float]) -> list[Account]:
    """Return the accounts in the order in which to try them.

    The lowest priority comes first. Accounts of one priority are in random order: an account of
    twice the weight comes first twice as often. ``random`` returns a number from 0 up to 1.
    """
    # Weighted random sampling by exponential variates (Efraimidis and Spirakis, 2006): one pass.
    drawn = [(account.priority, -math.log(1.0 - random()) / account.weight, account) for account in accounts]
    return [account for _, _, account in sorted(drawn, key=lambda one: one[:2])]


def fitting(accounts: Sequence[Account], sender: str, domain: str) -> tuple[Account, ...]:
    """Return the accounts that fit; see :meth:`Account.fits`."""
    return tuple(account for account in accounts if account.fits(sender, domain))


def _matches(domain: str, pattern: str) -> bool:
    return domain.endswith(pattern[1:]) if pattern.startswith("*.") else domain == pattern
