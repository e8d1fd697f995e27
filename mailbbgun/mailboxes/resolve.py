"""Finds the mailbox of an address at a local domain: for doors at RCPT, and for the relay that delivers here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.database.db import Database
from mailbbgun.domains.local import LocalDomains
from mailbbgun.mailboxes import repo
from mailbbgun.mailboxes.models import LocalMailbox, MailboxAlias
from mailbbgun.smtp.reply import Reply

#: Addresses of one statement, at most.
BATCH = 500

UNKNOWN = Reply(550, "5.1.1", "there is no such mailbox here")
NOT_LOCAL = Reply(550, "5.7.1", "relaying denied: the domain is not local")
FULL = Reply(452, "4.2.2", "the mailbox is full")
TOO_LARGE = Reply(552, "5.3.4", "the mail is larger than the mailbox")


class FoundMailbox(NamedTuple):
    """The mailbox that an address leads to."""

    id: UUID
    tenant_id: UUID
    address: str
    quota_bytes: int | None
    quota_messages: int | None


def resolve(
    database: Database, domains: LocalDomains, recipients: Sequence[str], size: int = 0
) -> dict[str, FoundMailbox | Reply]:
    """Return the mailbox of each recipient, or the reply that refuses it.

    ``size``: octets of the mail, as far as they are known. An address leads to the mailbox of that name,
    to that of an alias, to that of what stands before a ``+``, or to the catch-all of its domain, in this
    order; case does not matter. Raises :class:`DatabaseUnavailable`.
    """
    found: dict[str, FoundMailbox | Reply] = {}
    by_tenant: dict[UUID, list[str]] = {}
    for one in recipients:
        local = domains.of(one.rpartition("@")[2].lower())
        if local is None:
            found[one] = NOT_LOCAL
        else:
            by_tenant.setdefault(local.tenant_id, []).append(one)
    for tenant_id, its in by_tenant.items():
        for start in range(0, len(its), BATCH):
            with database.read(tenant_id) as session:
                found |= _of_tenant(session, tenant_id, its[start : start + BATCH], size)
    return found


def names(address: str) -> Iterator[str]:
    """Yield the names under which an address's mailbox may be known, the best first."""
    local, _, domain = address.lower().rpartition("@")
    yield f"{local}@{domain}"
    if local.partition("+")[0] and "+" in local and not local.startswith('"'):
        yield f"{local.partition('+')[0]}@{domain}"


def _of_tenant(
    session: Session, tenant_id: UUID, recipients: Sequence[str], size: int
) -> dict[str, FoundMailbox | Reply]:
    known = _by_name(session, tenant_id, {name for one in recipients for name in names(one)})
    catching = _catch_alls(session, tenant_id, {one.rpartition("@")[2].lower() for one in recipients})
    found: dict[str, FoundMailbox | Reply] = {}
    for one in recipients:
        mailbox = next((known[name] for name in names(one) if name in known), None)
        found[one] = mailbox or catching.get(one.rpartition("@")[2].lower()) or UNKNOWN
    its = {one.id: one for one in found.values() if isinstance(one, FoundMailbox)}
    refused = _refused(session, tenant_id, its, size)
    return {one: refused.get(its.id, its) if isinstance(its, FoundMailbox) else its for one, its in found.items()}


_FOUND = (
    *(LocalMailbox.id, LocalMailbox.tenant_id, LocalMailbox.address),
    *(LocalMailbox.quota_bytes, LocalMailbox.quota_messages),
)


def _by_name(session: Session, tenant_id: UUID, wanted: Collection[str]) -> dict[str, FoundMailbox]:
    """Return mailboxes by their own addresses and by their aliases."""
    its = (LocalMailbox.tenant_id == tenant_id, LocalMailbox.address.in_(wanted))
    own = {row.address: FoundMailbox._make(row) for row in session.execute(select(*_FOUND).where(*its))}
    aliases = select(MailboxAlias.address, *_FOUND).join(LocalMailbox, MailboxAlias.mailbox_id == LocalMailbox.id)
    named = (MailboxAlias.tenant_id == tenant_id, LocalMailbox.tenant_id == tenant_id, MailboxAlias.address.in_(wanted))
    return {name: FoundMailbox._make(row) for name, *row in session.execute(aliases.where(*named))} | own


def _catch_alls(session: Session, tenant_id: UUID, domains: Collection[str]) -> dict[str, FoundMailbox]:
    its = (LocalMailbox.tenant_id == tenant_id, LocalMailbox.catch_all_for.in_(domains))
    rows = session.execute(select(LocalMailbox.catch_all_for, *_FOUND).where(*its))
    return {str(name): FoundMailbox._make(row) for name, *row in rows}


def _refused(session: Session, tenant_id: UUID, mailboxes: Mapping[UUID, FoundMailbox], size: int) -> dict[UUID, Reply]:
    """Return the replies of mailboxes that have no room for one more mail."""
    limited = [one for one in mailboxes.values() if one.quota_bytes is not None or one.quota_messages is not None]
    if not limited:
        return {}
    used = repo.used(session, tenant_id, [one.id for one in limited])
    refused = {}
    for one in limited:
        count, octets = used.get(one.id, (0, 0))
        if one.quota_bytes is not None and size > one.quota_bytes:
            refused[one.id] = TOO_LARGE
        elif (one.quota_bytes is not None and octets + max(size, 1) > one.quota_bytes) or (
            one.quota_messages is not None and count >= one.quota_messages
        ):
            refused[one.id] = FULL
    return refused
