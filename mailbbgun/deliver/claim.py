"""Claims: taking deliveries into one worker's hands for the time of a lease. Set-based statements by the database's clock alone.

Statements of the hot path are built once: building one takes longer than running it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import CTE, Executable, Select, case, select, update
from sqlalchemy.orm import Session

from mailbbgun.database import leasing
from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.database.sql import among, id_rows, ids, unindexed
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.status import PENDING
from mailbbgun.tenants.repo import suspended

ISOLATED_FROM = 2  # claims that died with their worker; from here on a message is sent alone, in a child process
EAGER_SIZE = 65_536  # bytes; larger messages are read from the database only when their turn comes

_D, _M = DELIVERIES.c, MESSAGES.c
_IDLE = (_D.status == PENDING, _D.lease_owner.is_(None))
_IDLE_OF_MESSAGE = (unindexed(_D.status) == PENDING, _D.lease_owner.is_(None))


@dataclass(slots=True, eq=False)
class Claim:
    """One delivery in this worker's hands. ``lease_ends`` is boot-clock seconds, moved on by renewals."""

    delivery_id: UUID
    message_id: UUID
    tenant_id: UUID
    address: str
    lane: str
    claim_number: int
    schedule_step: int
    unknowns: int
    lease_ends: float
    key_id: UUID | None = None  # by which the message came; for the log

    @property
    def key(self) -> tuple[UUID, int]:
        """The delivery and the number of its claim, which name this claim and no other."""
        return self.delivery_id, self.claim_number


#: The address behind a display name. A quoted local part may hold angle brackets (RFC 5322 §3.4.1).
_NAMED = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"]*)@[^<>@]*)>$')


class Loaded(NamedTuple):
    """What a transaction needs to know of its message."""

    mail_from: str  # the envelope's sender
    smtputf8: bool
    test: bool  # by a test key
    sender: str  # From, as people read it
    raw: bytes | None  # None if it is large
    key_id: UUID | None  # by which it came

    @property
    def own_mail_from(self) -> bool:
        """Whether the message names its own envelope sender."""
        return self.sender != self.mail_from and not self.sender.endswith(f"<{self.mail_from}>")

    @property
    def from_address(self) -> str:
        """The address of From, which decides what account it leaves through."""
        if not self.own_mail_from:
            return self.mail_from
        named = _NAMED.search(self.sender)
        return named[1] if named else self.sender


def claim(
    session: Session,
    owner: UUID,
    message_ids: Sequence[UUID],
    lease_seconds: int,
    lease_ends: float,
    *,
    isolated: bool = False,
) -> list[Claim]:
    """Claim what is due, pending and unclaimed of these messages and return it.

    ``isolated`` takes also what killed workers before (``crashes`` ≥ ``ISOLATED_FROM``); only a child process may ask for that.
    """
    given = {"owner": owner, "messages": id_rows(dialect_of(session), sorted(message_ids)), "seconds": lease_seconds}
    rows = session.execute(_claim(dialect_of(session), isolated), given).mappings()
    return [Claim(**row, lease_ends=lease_ends) for row in rows]


@cache
def _claim(dialect: str, isolated: bool) -> Executable:
    due = select(_D.id).where(*_IDLE_OF_MESSAGE, _D.next_attempt_at <= db_now(), ~suspended(_D.tenant_id))
    if not isolated:
        due = due.where(_D.crashes < ISOLATED_FROM)
    # What the publisher has locked, it marks at the very moment its hint arrives here. Skipped, it would not be hinted again for a minute.
    told = (
        _D.id.label("delivery_id"),
        _D.message_id,
        _D.tenant_id,
        _D.address,
        _D.lane,
        _D.attempt.label("claim_number"),
        _D.tries.label("schedule_step"),
        _D.unknowns,
    )
    return leasing.taken(DELIVERIES, _locked(dialect, due)).returning(*told)


def _locked(dialect: str, rows: Select[tuple[UUID]]) -> CTE:
    """Lock rows of the messages given."""
    return leasing.locked(dialect, ids(dialect, "messages"), _D.message_id, rows)


def load(session: Session, message_ids: Collection[UUID]) -> dict[UUID, Loaded]:
    """Return what is needed of each message, in one statement."""
    rows = session.execute(_load(dialect_of(session)), {"messages": id_rows(dialect_of(session), message_ids)})
    return {row[0]: Loaded(*row[1:]) for row in rows}


@cache
def _load(dialect: str) -> Executable:
    raw = case((_M.size <= EAGER_SIZE, _M.raw))
    return select(_M.id, _M.mail_from, _M.smtputf8, _M.test, _M.sender, raw, _M.key_id).where(
        among(dialect, _M.id, "messages")
    )


def load_raw(session: Session, message_id: UUID) -> bytes:
    """Return the MIME bytes of one message."""
    return bytes(session.execute(select(_M.raw).where(_M.id == message_id)).scalar_one())


def renew(session: Session, owner: UUID, claims: Sequence[Claim], lease_seconds: int) -> set[tuple[UUID, int]]:
    """Prolong the leases that still stand and return delivery and attempt of each; the others were taken from us."""
    return leasing.prolong(session, DELIVERIES, owner, {one.delivery_id for one in claims}, lease_seconds)


def put_early_back(session: Session, message_ids: Sequence[UUID]) -> None:
    """Forget delay hints that came before their delivery was due (jitter); the tick hints it again when it is.

    Whether it is due by now is not asked: it may have become so since the claim that found nothing. Nor whether it was the delay hint that
    came, or an older one again with its bunch: then the delay hint comes as well, and is one too many.
    """
    session.execute(
        _put_early_back(dialect_of(session)), {"messages": id_rows(dialect_of(session), sorted(message_ids))}
    )


@cache
def _put_early_back(dialect: str) -> Executable:
    chosen = _locked(dialect, select(_D.id).where(*_IDLE_OF_MESSAGE, _D.published_at < _D.next_attempt_at))
    return update(DELIVERIES).where(_D.id.in_(select(chosen.c.id))).values(published_at=None)


def next_isolated(session: Session) -> UUID | None:
    """Return a message that is due and must be sent alone; None if there is none. No hint is needed for these, and none is lost."""
    statement = select(_D.message_id).where(
        *_IDLE, _D.crashes >= ISOLATED_FROM, _D.next_attempt_at <= db_now(), ~suspended(_D.tenant_id)
    )
    return session.execute(statement.order_by(_D.next_attempt_at).limit(1)).scalar_one_or_none()
