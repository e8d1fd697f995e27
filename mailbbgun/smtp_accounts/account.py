"""An SMTP account as deliveries see it, and which of a tenant's fit a mail, in what order. Pure."""

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
    """One account. ``endpoint`` is None where its password cannot be decrypted: it takes no mail, and loses none."""

    id: UUID
    name: str
    endpoint: Endpoint | None
    from_email: str | None = None  # an address, or a domain; in lower case
    priority: int = 10
    weight: int = 1
    max_connections: int = 5
    limits: SendingLimits = field(default=NONE)
    max_recipients: int | None = None  # of a message at once; None: no limit is known
    envelope_from: str | None = None  # MAIL FROM of mail that names no sender of its own; None: its From
    domains: tuple[str, ...] = ()  # in lower case; *.example.com is every subdomain, and not example.com itself

    def fits(self, sender: str, domain: str) -> bool:
        """Say whether mail from this address to this domain, both in lower case, may leave here."""
        return self._may_send_as(sender) and (
            not self.domains or any(_matches(domain, pattern) for pattern in self.domains)
        )

    def _may_send_as(self, sender: str) -> bool:
        return self.from_email is None or self.from_email in (sender, sender.rpartition("@")[2])


def ranked(accounts: Iterable[Account], random: Callable[[], float]) -> list[Account]:
    """Put accounts in the order in which they are to be tried: by priority, the least first, and by lot among those of one.

    An account of twice the weight is first twice as often. ``random`` gives 0…1.
    """
    # The least of exponential variates of those rates (Efraimidis and Spirakis, 2006): one pass, whatever their number.
    drawn = [(account.priority, -math.log(1.0 - random()) / account.weight, account) for account in accounts]
    return [account for _, _, account in sorted(drawn, key=lambda one: one[:2])]


def fitting(accounts: Sequence[Account], sender: str, domain: str) -> tuple[Account, ...]:
    """Return those that fit."""
    return tuple(account for account in accounts if account.fits(sender, domain))


def _matches(domain: str, pattern: str) -> bool:
    return domain.endswith(pattern[1:]) if pattern.startswith("*.") else domain == pattern
