"""Whether a mailbox has room for a mail: the same rule at a door, and in the transaction that stores the mail."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Integer, Uuid, bindparam, exists, select, update

from mailbbgun.database.compiled import CompiledStatement, Statements
from mailbbgun.database.sql import among, id_rows
from mailbbgun.mailboxes.models import MAILBOX_MESSAGES, MAILBOXES
from mailbbgun.smtp.outcome import Deferred, Phase
from mailbbgun.smtp.reply import Reply

FULL = Reply(452, "4.2.2", "the mailbox is full")
TOO_LARGE = Reply(552, "5.3.4", "the mail is larger than the mailbox")


class MailboxRoom(NamedTuple):
    """What a mailbox has, and what it takes at most; None: no limit."""

    used_messages: int
    used_bytes: int
    quota_messages: int | None
    quota_bytes: int | None

    def refusal(self, size: int) -> Reply | None:
        """Return the reply that refuses one more mail; None if there is room. ``size``: octets, without its trace."""
        if self.quota_bytes is not None and size > self.quota_bytes:
            return TOO_LARGE
        full = self.quota_bytes is not None and self.used_bytes + max(size, 1) > self.quota_bytes
        return FULL if full or (self.quota_messages is not None and self.used_messages >= self.quota_messages) else None

    def with_one_more(self, size: int) -> "MailboxRoom":
        """Return the room once a mail is in the mailbox."""
        return self._replace(used_messages=self.used_messages + 1, used_bytes=self.used_bytes + size)


class Coming(Protocol):
    """A mail that a transaction is to store. ``octets``: without its trace, as a door counts."""

    @property
    def mailbox_id(self) -> UUID: ...
    @property
    def octets(self) -> int: ...


class QuotaGate:
    """Refuses what exceeds a quota in the transaction that would store it. See ``smtp/outcome.Gate``."""

    refusal = Deferred(FULL, Phase.RCPT)

    def refused(self, statements: Statements, effects: Sequence[Coming]) -> Collection[int]:
        """Lock the mailboxes, in order of id, and return the places of effects that there is no room for."""
        wanted = {one.mailbox_id for one in effects}
        rows = statements.ask(_locked(statements.dialect), {"mailboxes": id_rows(statements.dialect, wanted)})
        rooms = {identifier: MailboxRoom(*its) for identifier, *its in rows}
        over = set()
        for place, one in enumerate(effects):
            room = rooms.get(one.mailbox_id)
            if room is not None and room.refusal(one.octets) is not None:
                over.add(place)
            elif room is not None:
                rooms[one.mailbox_id] = room.with_one_more(one.octets)
        return over


@cache
def _locked(dialect: str) -> CompiledStatement:
    its = MAILBOXES.c
    found = select(its.id, its.used_messages, its.used_bytes, its.quota_messages, its.quota_bytes)
    # Its mail locks the mailbox's key.
    wanted = found.where(among(dialect, its.id, "mailboxes")).order_by(its.id).with_for_update(key_share=True)
    return CompiledStatement(wanted)


@cache
def counting() -> CompiledStatement:
    """Return the statement that counts a mail which the next one stores, unless its delivery has stored one."""
    its, mail = MAILBOXES.c, MAILBOX_MESSAGES.c
    tenant, mailbox, delivery = (bindparam(name, type_=Uuid()) for name in ("tenant_id", "mailbox", "delivery_id"))
    there = exists().where(mail.tenant_id == tenant, mail.delivery_id == delivery)
    more = {"used_messages": its.used_messages + 1, "used_bytes": its.used_bytes + bindparam("size", type_=Integer())}
    return CompiledStatement(update(MAILBOXES).where(its.tenant_id == tenant, its.id == mailbox, ~there).values(**more))
