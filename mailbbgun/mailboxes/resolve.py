"""Finds the mailbox of an address at a local domain: for doors at RCPT, and for the relay that delivers here."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.database.db import Database
from mailbbgun.domains.local import LocalDomains
from mailbbgun.mailboxes.models import LocalMailbox, MailboxAlias
from mailbbgun.mailboxes.quota import MailboxRoom
from mailbbgun.smtp.reply import Reply

#: Addresses of one statement, at most.
BATCH = 500

UNKNOWN = Reply(550, "5.1.1", "there is no such mailbox here")
NOT_LOCAL = Reply(550, "5.7.1", "relaying denied: the domain is not local")


class FoundMailbox(NamedTuple):
    """The mailbox that an address leads to."""

    id: UUID
    tenant_id: UUID
    address: str
    room: MailboxRoom


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
    return {one: its.room.refusal(size) or its if isinstance(its, FoundMailbox) else its for one, its in found.items()}


_FOUND = (
    *(LocalMailbox.id, LocalMailbox.tenant_id, LocalMailbox.address),
    *(LocalMailbox.used_messages, LocalMailbox.used_bytes),
    *(LocalMailbox.quota_messages, LocalMailbox.quota_bytes),
)


def _of_row(row: Sequence[Any]) -> FoundMailbox:
    identifier, tenant_id, address, *its = row
    return FoundMailbox(identifier, tenant_id, address, MailboxRoom(*its))


def _by_name(session: Session, tenant_id: UUID, wanted: Collection[str]) -> dict[str, FoundMailbox]:
    """Return mailboxes by their own addresses and by their aliases."""
    its = (LocalMailbox.tenant_id == tenant_id, LocalMailbox.address.in_(wanted))
    own = {row.address: _of_row(row) for row in session.execute(select(*_FOUND).where(*its))}
    aliases = select(MailboxAlias.address, *_FOUND).join(LocalMailbox, MailboxAlias.mailbox_id == LocalMailbox.id)
    named = (MailboxAlias.tenant_id == tenant_id, LocalMailbox.tenant_id == tenant_id, MailboxAlias.address.in_(wanted))
    return {name: _of_row(row) for name, *row in session.execute(aliases.where(*named))} | own


def _catch_alls(session: Session, tenant_id: UUID, domains: Collection[str]) -> dict[str, FoundMailbox]:
    its = (LocalMailbox.tenant_id == tenant_id, LocalMailbox.catch_all_for.in_(domains))
    rows = session.execute(select(LocalMailbox.catch_all_for, *_FOUND).where(*its))
    return {str(name): _of_row(row) for name, *row in rows}
