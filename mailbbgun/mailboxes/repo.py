"""Queries on mailboxes and their aliases. The caller commits."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, exists, func, select, update
from sqlalchemy.orm import Session

from mailbbgun.mailboxes.models import ALIASES, MAILBOX_MESSAGES, MAILBOXES, LocalMailbox, MailboxAlias


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None, domain: str | None = None
) -> tuple[Sequence[LocalMailbox], int, UUID | None]:
    """Return a page of a tenant's mailboxes, newest first, how many match in all, and the last id if more follow."""
    its: list[ColumnElement[bool]] = [LocalMailbox.tenant_id == tenant_id]
    if domain is not None:
        its.append(LocalMailbox.address.endswith(f"@{domain}", autoescape=True))
    older = [] if after is None else [LocalMailbox.id < after]
    statement = select(LocalMailbox).where(*its, *older).order_by(LocalMailbox.id.desc())
    found = session.scalars(statement.offset(offset).limit(limit + 1)).all()
    shown = found[:limit]
    count = session.scalar(select(func.count()).select_from(LocalMailbox).where(*its)) or 0
    return shown, count, shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID) -> int:
    """Return how many mailboxes a tenant has."""
    its = select(func.count()).select_from(LocalMailbox).where(LocalMailbox.tenant_id == tenant_id)
    return session.scalar(its) or 0


def mailbox(session: Session, tenant_id: UUID, called: str | UUID, *, kept: bool = False) -> LocalMailbox | None:
    """Return a tenant's mailbox of this address or id; None if it has none.

    ``kept``: nobody deletes it until the transaction ends.
    """
    its = LocalMailbox.id == called if isinstance(called, UUID) else LocalMailbox.address == called
    statement = select(LocalMailbox).where(LocalMailbox.tenant_id == tenant_id, its)
    if kept:
        statement = statement.with_for_update(read=True, key_share=True)
    return session.scalar(statement.execution_options(populate_existing=True))


def taken(session: Session, tenant_id: UUID, address: str) -> bool:
    """Return whether an address is that of a mailbox or an alias."""
    own = exists().where(LocalMailbox.tenant_id == tenant_id, LocalMailbox.address == address)
    alias = exists().where(MailboxAlias.tenant_id == tenant_id, MailboxAlias.address == address)
    return bool(session.scalar(select(own)) or session.scalar(select(alias)))


def catches(session: Session, tenant_id: UUID, domain: str) -> str | None:
    """Return the address of the mailbox that takes the mail of a domain's unknown addresses, if there is one."""
    its = (LocalMailbox.tenant_id == tenant_id, LocalMailbox.catch_all_for == domain)
    return session.scalar(select(LocalMailbox.address).where(*its))


def aliases(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> Mapping[UUID, list[str]]:
    """Return the aliases of mailboxes, in the order of the alphabet."""
    its = (MailboxAlias.tenant_id == tenant_id, MailboxAlias.mailbox_id.in_(ids))
    found: dict[UUID, list[str]] = defaultdict(list)
    statement = select(MailboxAlias.mailbox_id, MailboxAlias.address).where(*its).order_by(MailboxAlias.address)
    for mailbox_id, address in session.execute(statement):
        found[mailbox_id].append(address)
    return found


def change(session: Session, tenant_id: UUID, mailbox_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a mailbox."""
    if values:
        statement = update(MAILBOXES).where(MAILBOXES.c.tenant_id == tenant_id, MAILBOXES.c.id == mailbox_id)
        session.execute(statement.values(**values))


def remove(session: Session, tenant_id: UUID, mailbox_id: UUID) -> None:
    """Delete a mailbox with its aliases and its mail."""
    # The mailbox first: deliveries that begin now wait, and then find that it is gone (``store.py``). Its rows
    # elsewhere go with it; they are deleted by name where the database does not.
    parts: tuple[tuple[Table, ColumnElement[bool]], ...] = (
        (MAILBOXES, MAILBOXES.c.id == mailbox_id),
        (ALIASES, ALIASES.c.mailbox_id == mailbox_id),
        (MAILBOX_MESSAGES, MAILBOX_MESSAGES.c.mailbox_id == mailbox_id),
    )
    for table, its in parts:
        session.execute(delete(table).where(table.c.tenant_id == tenant_id, its))


def remove_alias(session: Session, tenant_id: UUID, mailbox_id: UUID, address: str) -> bool:
    """Delete an alias of a mailbox; return whether there was one."""
    its = (ALIASES.c.tenant_id == tenant_id, ALIASES.c.mailbox_id == mailbox_id, ALIASES.c.address == address)
    return bool(session.scalars(delete(ALIASES).where(*its).returning(ALIASES.c.id)).all())
