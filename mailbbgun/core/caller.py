"""The client of a request: its tenant, and what its API key allows.

A door knows this once it has checked the key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from mailbbgun.core.ids import DEFAULT_TENANT


class Scope(StrEnum):
    """What a key may be allowed to do. Each scope is asked for somewhere."""

    WRITE = "messages:write"  # send, cancel, retry
    READ = "messages:read"
    TEMPLATES = "templates"
    ACCOUNTS = "accounts"  # SMTP accounts
    REVEAL = "accounts:reveal"  # the passwords of SMTP accounts
    DOMAINS = "domains"  # sending domains
    WEBHOOKS = "webhooks"
    ALERTS = "alerts"  # rules, incidents and their notices
    LICENCES = "licences"
    FILES = "files"  # shared files
    MAILBOXES = "mailboxes"  # mailboxes of local domains, and the mail in them
    INBOUND = "inbound"  # inbound routes
    SMTP = "smtp"  # send by SMTP
    ADMIN = "admin"  # all tenants and all keys


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names, and ignore unknown names.

    A key may have scopes of an earlier or a later version; they allow nothing here.
    """
    return frozenset(Scope(name) for name in names if name in _SCOPES)


_SCOPES = frozenset(Scope)


class KeyKind(StrEnum):
    """Where mail of a key goes."""

    LIVE = "live"
    TEST = "test"  # to the mail catcher, through all steps of a delivery
    TEAM = "team"  # to the key's guests only


class DuplicatePolicy(StrEnum):
    """What becomes of a message that a key has just sent."""

    ANSWER = "answer"  # the answer names the first message, and nothing is stored
    HOLD = "hold"  # it is stored, and sent only if a person retries it


@dataclass(frozen=True, slots=True)
class Identity:
    """The addresses that a tenant's SMTP accounts may send from.

    ``default`` is the From of a message that names none, with or without a display name; None: the
    service's ``DEFAULT_FROM``. ``allowed`` are addresses and domains in lower case, one of which
    From must match; None: any From.
    """

    default: str | None = None
    allowed: frozenset[str] | None = None


#: The identity of a tenant without SMTP accounts.
ANYONE = Identity()


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant that makes a request, with one of its keys or with none.

    ``senders`` and ``guests`` are addresses and domains in lower case: those that the key may send
    from (empty: from any), and those that a team key may send to.
    """

    tenant_id: UUID
    key_id: UUID | None = None
    kind: KeyKind = KeyKind.LIVE
    scopes: frozenset[Scope] = frozenset()
    senders: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    suspended: bool = False
    identity: Identity = ANYONE
    has_suppressions: bool = False  # the tenant may have suppressed recipients
    # Limits; None: no limit.
    requests_per_minute: int | None = None  # of the key
    tenant_requests_per_minute: int | None = None  # of all the tenant's keys together
    messages_per_day: int | None = None  # of the tenant
    #: For how many seconds the key's mail is compared with its next (``limits/duplicates.py``); None: it is not.
    duplicate_seconds: int | None = None
    holds_duplicates: bool = False  # it stores a duplicate, unsent; otherwise it answers the first message's id

    @property
    def tests_only(self) -> bool:
        """Whether the caller sees and changes only test data."""
        return self.kind is KeyKind.TEST

    @property
    def counts_as(self) -> UUID:
        """The id under which its use of the tenant's limits is counted: see :func:`counts_as`."""
        return counts_as(self.tenant_id, test=self.tests_only)

    @property
    def limited(self) -> bool:
        """Whether the caller's requests are counted."""
        return self.requests_per_minute is not None or self.tenant_requests_per_minute is not None

    def may_send_as(self, address: str) -> bool:
        """Return whether the key may send from this address."""
        return not self.senders or among(address, self.senders)

    def has_account_for(self, address: str) -> bool:
        """Return whether one of the tenant's SMTP accounts may send from this address.

        True if it has no accounts.
        """
        return self.identity.allowed is None or among(address, self.identity.allowed)

    def may_send_to(self, address: str) -> bool:
        """Return whether the key may send to this address."""
        return self.kind is not KeyKind.TEAM or among(address, self.guests)


#: The caller without a key, where AUTH_REQUIRED is off. It may do everything but read passwords.
ANYBODY = Caller(DEFAULT_TENANT, scopes=frozenset(Scope) - {Scope.REVEAL})


def counts_as(tenant_id: UUID, *, test: bool) -> UUID:
    """Return the id under which a tenant's use of its limits is counted.

    Test use has an id of its own, so tests take nothing from the limits of live mail. That id is a
    UUIDv5 (RFC 9562 §5.5). Ids of tenants are UUIDv7, so the two never collide.
    """
    return uuid5(tenant_id, "test") if test else tenant_id


def among(address: str, allowed: frozenset[str]) -> bool:
    """Return whether an address or its domain is one of ``allowed``, which are in lower case.

    A subdomain is another domain.
    """
    lower = address.lower()
    return lower in allowed or lower.rpartition("@")[2] in allowed
