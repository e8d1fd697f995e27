"""Adds, changes and removes mailboxes and their aliases."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core import addresses
from mailbbgun.core.errors import Conflict, InvalidInput, NotFound
from mailbbgun.domains import repo as domains
from mailbbgun.mailboxes import repo
from mailbbgun.mailboxes.models import LocalMailbox, MailboxAlias
from mailbbgun.tenants import repo as tenants

#: Mailboxes of a tenant, and aliases of a mailbox, at most.
MOST, MOST_ALIASES = 10_000, 100


def create(session: Session, tenant_id: UUID, mailbox_id: UUID, wanted: Mapping[str, Any]) -> LocalMailbox:
    """Add a mailbox. Raises :class:`Conflict`, and :class:`InvalidInput` for an address that is not local."""
    tenants.lock(session, tenant_id)
    address = _new_address(session, tenant_id, wanted["address"])
    if repo.count(session, tenant_id) >= MOST:
        raise Conflict(f"There are {MOST} mailboxes already, which is the most.")
    made = LocalMailbox(
        id=mailbox_id,
        tenant_id=tenant_id,
        address=address,
        quota_bytes=wanted["quota_bytes"],
        quota_messages=wanted["quota_messages"],
        catch_all_for=_catching(session, tenant_id, address) if wanted["catch_all"] else None,
        created_at=datetime.now(UTC),
    )
    session.add(made)
    session.flush()
    return made


def change(session: Session, mailbox: LocalMailbox, wanted: Mapping[str, Any]) -> None:
    """Change what is given of a mailbox. Raises :class:`Conflict`."""
    tenants.lock(session, mailbox.tenant_id)
    values = {name: wanted[name] for name in ("quota_bytes", "quota_messages") if name in wanted}
    if wanted.get("catch_all") is False:
        values["catch_all_for"] = None
    elif "catch_all" in wanted and mailbox.catch_all_for is None:
        values["catch_all_for"] = _catching(session, mailbox.tenant_id, mailbox.address)
    repo.change(session, mailbox.tenant_id, mailbox.id, values)


def add_alias(session: Session, mailbox: LocalMailbox, text: str) -> None:
    """Add an alias. Raises what :func:`create` does, and :class:`NotFound` if the mailbox was just deleted."""
    tenants.lock(session, mailbox.tenant_id)
    if repo.mailbox(session, mailbox.tenant_id, mailbox.id, kept=True) is None:
        raise _missing()
    address = _new_address(session, mailbox.tenant_id, text)
    if len(repo.aliases(session, mailbox.tenant_id, [mailbox.id]).get(mailbox.id, ())) >= MOST_ALIASES:
        raise Conflict(f"{mailbox.address} has {MOST_ALIASES} aliases already, which is the most.")
    now = datetime.now(UTC)
    session.add(MailboxAlias(tenant_id=mailbox.tenant_id, address=address, mailbox_id=mailbox.id, created_at=now))
    session.flush()


def address_of(text: str) -> str:
    """Return the address of a mailbox in the form that is stored. Raises :class:`InvalidInput`."""
    try:
        return addresses.address(text.strip()).lower()
    except ValueError as error:
        raise InvalidInput("Some fields are not valid.", fields={"address": [str(error)]}) from error


def domain_of(text: str) -> str:
    """Return a domain in the form that is stored. Raises :class:`InvalidInput`."""
    try:
        return addresses.domain(text.strip().removesuffix("."))
    except ValueError as error:
        raise InvalidInput("Some parameters are not valid.", fields={"domain": [str(error)]}) from error


def shapes(session: Session, tenant_id: UUID, found: Sequence[LocalMailbox]) -> list[dict[str, Any]]:
    """Return mailboxes in the form that ``schemas.MailboxShape`` takes."""
    ids = [one.id for one in found]
    aliases = repo.aliases(session, tenant_id, ids)
    names = ("id", "address", "quota_bytes", "quota_messages", "created_at")
    return [
        {name: getattr(one, name) for name in names}
        | {"catch_all": one.catch_all_for is not None, "aliases": aliases.get(one.id, [])}
        | {"messages": one.used_messages, "size": one.used_bytes}
        for one in found
    ]


def found(session: Session, tenant_id: UUID, called: str) -> LocalMailbox:
    """Return the tenant's mailbox with this address, in any case, or this id. Raises :class:`NotFound`."""
    try:
        wanted: str | UUID = address_of(called) if "@" in called else UUID(called)
    except (ValueError, InvalidInput):
        raise _missing() from None
    if (mailbox := repo.mailbox(session, tenant_id, wanted)) is None:
        raise _missing()
    return mailbox


def remove_alias(session: Session, mailbox: LocalMailbox, text: str) -> None:
    """Delete an alias. Raises :class:`NotFound`."""
    if not repo.remove_alias(session, mailbox.tenant_id, mailbox.id, text.lower()):
        raise NotFound(f"{mailbox.address} has no such alias.")


def _missing() -> NotFound:
    return NotFound("There is no such mailbox.")


def _new_address(session: Session, tenant_id: UUID, text: str) -> str:
    """Return a new address at a local domain of the tenant. Raises :class:`InvalidInput`, :class:`Conflict`."""
    address = address_of(text)
    local, _, domain = address.rpartition("@")
    faults = []
    if (its := domains.domain(session, tenant_id, domain)) is None or not its.local:
        how = "by POST /domains with local true, or by mailbbgun domain add --local"
        faults.append(f"{domain} is no local domain of yours: make it one {how}.")
    if "+" in local and not local.startswith('"'):
        faults.append("A + may not be in it: mail to ann+anything@ goes to the mailbox of ann@.")
    if faults:
        raise InvalidInput("Some fields are not valid.", fields={"address": faults})
    if repo.taken(session, tenant_id, address):
        raise Conflict(f"{address} is a mailbox or an alias already.")
    return address


def _catching(session: Session, tenant_id: UUID, address: str) -> str:
    """Return the domain whose unknown addresses a mailbox is to take the mail of. Raises :class:`Conflict`."""
    domain = address.rpartition("@")[2]
    if (other := repo.catches(session, tenant_id, domain)) is not None:
        raise Conflict(f"{other} takes the mail of unknown addresses at {domain} already.")
    return domain
