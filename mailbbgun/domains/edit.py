"""Adds and removes sending domains, rotates their keys, and checks them against the DNS.

A key pair waits until its record is seen in the DNS: a signature whose key receivers cannot find is
worse than none. Then it signs, and retires the key of its algorithm that signed before. A retired key
still signs messages from before, and its record must stay, until it is removed.

An API key with ``senders`` uses only domains that are among these.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core import addresses
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from mailbbgun.database.crypto import Vault
from mailbbgun.domains import repo
from mailbbgun.domains.dns.findings import aligned
from mailbbgun.domains.dns.look import DNSReport, Plan
from mailbbgun.domains.dns.records import SPF_OF_PRESET, records
from mailbbgun.domains.keys import KeyPair, new_pairs
from mailbbgun.domains.models import ACTIVE, PENDING, RETIRED, DKIMKey, Policy, SendingDomain
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts import repo as smtp_accounts
from mailbbgun.smtp_accounts.edit import MOST as MOST_ACCOUNTS
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo as tenants

#: Most domains of a tenant.
MOST = 1000


class Locality(NamedTuple):
    """Whether the mail of a domain is delivered here: that of its tenant, and that of all others, too."""

    here: bool
    for_all: bool


NOT_LOCAL = Locality(here=False, for_all=False)


def domain_name(text: str) -> str:
    """Return the name of a sending domain in the form that is stored: A-labels, lower case.

    Raises :class:`InvalidInput`.
    """
    try:
        name = addresses.domain(text.strip().removesuffix("."))
    except ValueError as error:
        raise InvalidInput("Some fields are not valid.", fields={"name": [str(error)]}) from error
    if "." not in name:
        why = f"{name} has no dot: a sending domain is one like example.com, which others find in the DNS."
        raise InvalidInput("Some fields are not valid.", fields={"name": [why]})
    return name


def create(
    session: Session,
    vault: Vault,
    tenant_id: UUID,
    domain_id: UUID,
    name: str,
    pairs: Sequence[KeyPair],
    *,
    local: Locality = NOT_LOCAL,
    policy: Policy = "none",
) -> SendingDomain:
    """Add a domain of a tenant, with key pairs that wait for their records.

    Raises :class:`Conflict` if the tenant has it already, or has too many, or if it is to be local, and
    is local to another tenant.
    """
    tenants.lock(session, tenant_id)
    if repo.count(session, tenant_id) >= MOST:
        raise Conflict(f"There are {MOST} domains already, which is the most.")
    now = datetime.now(UTC)
    made = SendingDomain(id=domain_id, tenant_id=tenant_id, name=name, created_at=now, checked_at=None, findings=[])
    made.local, made.local_for_all = local
    made.policy = policy
    if repo.domain(session, tenant_id, name) is not None:
        raise Conflict(f"There is a domain {name} already.")
    try:
        session.add(made)
        session.flush()
    except IntegrityError as error:
        raise _another_has(name) from error
    _add(session, vault, made, pairs, now)
    return made


def make_local(session: Session, domain: SendingDomain, local: Locality) -> None:
    """Deliver the mail of a domain here from now on, or no more.

    Raises :class:`Conflict` if it is local to another tenant.
    """
    try:
        repo.make_local(session, domain.tenant_id, domain.id, *local)
    except IntegrityError as error:
        raise _another_has(domain.name) from error


def _another_has(name: str) -> Conflict:
    return Conflict(f"{name} is the local domain of another tenant.")


def rotate(session: Session, vault: Vault, domain: SendingDomain, pairs: Sequence[KeyPair]) -> None:
    """Add key pairs, which replace those that sign now once their records are seen.

    Raises :class:`Conflict` if key pairs wait already.
    """
    tenants.lock(session, domain.tenant_id)
    check_none_waits(session, domain)
    _add(session, vault, domain, pairs, datetime.now(UTC))


def check_none_waits(session: Session, domain: SendingDomain) -> None:
    """Raise :class:`Conflict` if key pairs of a domain wait for their records."""
    if waiting := [key.selector for key in keys_of(session, domain) if key.state == PENDING]:
        raise Conflict(
            f"{' and '.join(sorted(waiting))} of {domain.name} wait for their records already: publish these, or "
            "delete the keys."
        )


def note(session: Session, domain: SendingDomain, report: DNSReport, *, force: bool = False) -> list[DKIMKey]:
    """Keep what the DNS says, and activate keys whose record was seen; with ``force`` all that wait.

    Returns the keys that sign from now on.
    """
    tenants.lock(session, domain.tenant_id)
    now = datetime.now(UTC)
    repo.note_findings(session, domain.tenant_id, domain.id, [one.as_json() for one in report.findings], now)
    # The oldest first: if a key was made while another waited, the newest of those seen signs.
    pending = [key for key in reversed(keys_of(session, domain)) if key.state == PENDING]
    begun = [key for key in pending if force or key.selector in report.seen]
    for key in begun:
        repo.activate(session, domain.tenant_id, key, now)
    return begun


def remove_key(session: Session, domain: SendingDomain, selector: str) -> None:
    """Delete a key now. Messages that it would have signed are signed by the one that signs now.

    Raises :class:`NotFound`.
    """
    tenants.lock(session, domain.tenant_id)
    keys = keys_of(session, domain)
    found = next((key for key in keys if key.selector == selector), None)
    if found is None:
        has = f"it has {', '.join(key.selector for key in keys)}" if keys else "it has none"
        raise NotFound(f"The domain has no key {selector[:64]!r}; {has}.")
    repo.remove_key(session, domain.tenant_id, found.id)


def keys_of(session: Session, domain: SendingDomain) -> list[DKIMKey]:
    """Return the keys of a domain, newest first."""
    return repo.keys(session, domain.tenant_id, [domain.id]).get(domain.id, [])


def removed_at(key: DKIMKey, settings: Settings) -> datetime | None:
    """Return when a retired key is removed; None for any other."""
    return key.retired_at and key.retired_at + timedelta(days=settings.DKIM_KEEP_DAYS)


def plan(session: Session, settings: Settings, domain: SendingDomain, keys: Iterable[DKIMKey]) -> Plan:
    """Return what the DNS should have of a domain, by its keys and the tenant's SMTP accounts."""
    accounts, _, _ = smtp_accounts.accounts(session, domain.tenant_id, limit=MOST_ACCOUNTS, offset=0, after=None)
    used = [one for one in accounts if one.enabled and _sends_as(one, domain.name)]
    mechanisms = [SPF_OF_PRESET[one.preset] for one in used if one.preset in SPF_OF_PRESET]
    if not accounts and settings.direct_mx:
        mechanisms = [f"a:{settings.HOSTNAME}"]
    bounces = settings.RETURN_PATH_DOMAIN.lower()
    returned = [one.envelope_from.rpartition("@")[2] if one.envelope_from else bounces or domain.name for one in used]
    if bounces and not accounts:
        returned = [bounces]
    needed = [key for key in keys if key.state != RETIRED]
    return Plan(domain.name, needed, list(dict.fromkeys(mechanisms)), list(dict.fromkeys(returned)))


def shape(domain: SendingDomain, keys: Sequence[DKIMKey]) -> dict[str, Any]:
    """Return a domain in the form that ``schemas.DomainShape`` takes."""
    shown = {name: getattr(domain, name) for name in ("id", "name", "local", "policy", "created_at", "checked_at")}
    return shown | {"signs": any(key.state == ACTIVE for key in keys)}


def details(session: Session, settings: Settings, domain: SendingDomain) -> dict[str, Any]:
    """Return a domain in the form that ``schemas.DomainDetails`` takes."""
    keys = keys_of(session, domain)
    wanted = plan(session, settings, domain, keys)
    names = ("selector", "algorithm", "state", "created_at", "active_from", "retired_at")
    shown = [{name: getattr(key, name) for name in names} | {"removed_at": removed_at(key, settings)} for key in keys]
    bounces = settings.RETURN_PATH_DOMAIN.lower()
    ours = bounces if bounces in wanted.return_paths and aligned(domain.name, bounces) else ""
    to_publish = records(domain.name, wanted.keys, wanted.mechanisms, ours, settings.HOSTNAME)
    return shape(domain, keys) | {"keys": shown, "records": to_publish, "findings": domain.findings}


def check_own(who: Caller, name: str) -> None:
    """Raise :class:`Forbidden` if the API key has senders, and the domain is none of them."""
    if who.senders and name not in who.senders:
        raise Forbidden(f"This API key has senders, and {name} is not one of them: it may not use that domain.")


def missing() -> NotFound:
    """Return the error for a domain that does not exist or belongs to another tenant."""
    return NotFound("There is no such domain.")


def pairs() -> list[KeyPair]:
    """Return new key pairs for a domain. Call it outside of transactions: it takes a tenth of a second."""
    return new_pairs(datetime.now(UTC))


def _add(session: Session, vault: Vault, domain: SendingDomain, pairs: Sequence[KeyPair], now: datetime) -> None:
    for pair in pairs:
        session.add(
            DKIMKey(
                tenant_id=domain.tenant_id,
                domain_id=domain.id,
                selector=pair.selector,
                algorithm=pair.algorithm,
                private_key=vault.encrypt(pair.private),
                public_key=pair.public,
                created_at=now,
            )
        )
    session.flush()


def _sends_as(account: SMTPAccount, domain: str) -> bool:
    """Return whether an account may send as an address of this domain or of one below it."""
    if account.from_email is None:
        return True
    its = account.from_email.rpartition("@")[2]
    return its == domain or its.endswith(f".{domain}")
