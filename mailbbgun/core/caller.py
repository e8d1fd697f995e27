"""Who asks: what a door knows of its client once the key is checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from mailbbgun.core.ids import DEFAULT_TENANT


class Scope(StrEnum):
    """What a key may be allowed to do. A scope comes with the capability that asks for it, never before."""

    WRITE = "messages:write"  # send, cancel, retry
    READ = "messages:read"
    ACCOUNTS = "accounts"  # SMTP accounts
    REVEAL = "accounts:reveal"  # the passwords of SMTP accounts
    ADMIN = "admin"  # tenants and keys, everybody's


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names. A key may have others, of an earlier or a later version: they allow nothing here."""
    return frozenset(Scope(name) for name in names if name in _SCOPES)


_SCOPES = frozenset(Scope)


class KeyKind(StrEnum):
    """Where mail of a key goes."""

    LIVE = "live"
    TEST = "test"  # the whole way, but to the catcher
    TEAM = "team"  # to guests only


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a tenant's SMTP accounts send.

    ``default`` is the From of messages that name none, as people write it; None: the service's. ``allowed`` are addresses and domains in lower
    case, of which From must be; None: any.
    """

    default: str | None = None
    allowed: frozenset[str] | None = None


ANYONE = Identity()
"""Of a tenant without accounts."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant, by one of its keys or by none. ``senders`` and ``guests`` are addresses and domains in lower case; no ``senders``: any."""

    tenant_id: UUID
    key_id: UUID | None = None
    kind: KeyKind = KeyKind.LIVE
    scopes: frozenset[Scope] = frozenset()
    senders: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    suspended: bool = False
    identity: Identity = ANYONE
    requests_per_minute: int | None = None  # the key's limit; None: no limit, here and below
    tenant_requests_per_minute: int | None = None  # of all the tenant's keys together
    messages_per_day: int | None = None  # the tenant's

    @property
    def tests_only(self) -> bool:
        """Whether it sees and changes test data alone."""
        return self.kind is KeyKind.TEST

    @property
    def counts_as(self) -> UUID:
        """What is counted for its tenant is counted under this id: live and test use never take from each other."""
        return counts_as(self.tenant_id, test=self.tests_only)

    @property
    def limited(self) -> bool:
        """Whether its requests are counted."""
        return self.requests_per_minute is not None or self.tenant_requests_per_minute is not None

    def may_send_as(self, address: str) -> bool:
        """Say whether From may be this address."""
        return not self.senders or among(address, self.senders)

    def has_account_for(self, address: str) -> bool:
        """Say whether an SMTP account of the tenant's may send as this address, or it has none at all."""
        return self.identity.allowed is None or among(address, self.identity.allowed)

    def may_send_to(self, address: str) -> bool:
        """Say whether mail may go to this address."""
        return self.kind is not KeyKind.TEAM or among(address, self.guests)


ANYBODY = Caller(DEFAULT_TENANT, scopes=frozenset(Scope) - {Scope.REVEAL})
"""Who shows no key where none is asked for: may do everything but read passwords."""


def counts_as(tenant_id: UUID, *, test: bool) -> UUID:
    """Return the id under which a tenant's use of its limits is counted; its test data has one of its own.

    That is a UUIDv5 (RFC 9562 §5.5), and ids of tenants are UUIDv7, so it is no tenant's.
    """
    return uuid5(tenant_id, "test") if test else tenant_id


def among(address: str, allowed: frozenset[str]) -> bool:
    """Say whether an address, or its domain, is one of these, in lower case. A subdomain is another domain."""
    lower = address.lower()
    return lower in allowed or lower.rpartition("@")[2] in allowed
