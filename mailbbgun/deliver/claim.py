"""Claims deliveries for one worker, each for the time of a lease.

All times are the database's clock. A statement works on many rows at once. Each is compiled only
once, because SQLAlchemy takes longer to build it than the database to run it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CTE, Select, Text, and_, case, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from mailbbgun.core.addresses import in_mailbox
from mailbbgun.database import leasing
from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.sql import among, chosen, id_rows, ids, seconds_until, unindexed
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.outgoing import EAGER_SIZE
from mailbbgun.messages.status import PENDING
from mailbbgun.tenants.repo import suspended, with_suppressions

#: Claims of a delivery that died with their worker, from which on its message is sent alone, in a
#: child process.
ISOLATED_FROM = 2

_D, _M = DELIVERIES.c, MESSAGES.c
#: The columns of :class:`Loaded`, after the MIME.
_LOADED = (
    *(_M.mail_from, _M.smtputf8, _M.test, _M.sender, _M.key_id, _M.content_id),
    seconds_until(_M.useful_until),
    with_suppressions(_M.tenant_id),
    _M.traceparent,
    _M.received,
)
_IDLE = (_D.status == PENDING, _D.lease_owner.is_(None))
_IDLE_OF_MESSAGE = (unindexed(_D.status) == PENDING, _D.lease_owner.is_(None))


@dataclass(slots=True, eq=False)
class Claim:
    """One delivery that this worker has in hand.

    ``claim_number`` counts the claims of the delivery and is the fencing token: a result counts
    only if its claim is still the last one. ``schedule_step`` is the place in RETRY_DELAYS,
    ``unknowns`` the attempts whose outcome nobody knows. ``lease_ends`` is in boot-clock seconds;
    each renewal moves it on.
    """

    delivery_id: UUID
    message_id: UUID
    tenant_id: UUID
    address: str
    lane: str
    claim_number: int
    schedule_step: int
    unknowns: int
    lease_ends: float
    key_id: UUID | None = None  # the API key that sent the message; for the log
    useful_until: float | None = None  # boot-clock seconds from which on nothing may be sent; None: no limit
    received_for: str | None = None  # the local recipient whose inbound route made the delivery

    @property
    def key(self) -> tuple[UUID, int]:
        """The delivery's id and ``claim_number``: together they name this claim and no other."""
        return self.delivery_id, self.claim_number

    def left(self, now: float) -> float | None:
        """For how many seconds from ``now`` (boot clock) on the message may be sent; None: without a limit."""
        return None if self.useful_until is None else self.useful_until - now

    def is_late(self, now: float) -> bool:
        """Whether the message may be sent no more."""
        return self.useful_until is not None and self.useful_until <= now


#: The columns of a delivery that a claim is made of. The last is `received_for`.
_TOLD = 9


class Loaded(NamedTuple):
    """What a transaction needs of its message."""

    raw: bytes | None  # None if it is larger than EAGER_SIZE, or to be composed
    mail_from: str  # the envelope sender
    smtputf8: bool
    test: bool  # sent by a test key
    sender: str  # the From header, as people read it
    key_id: UUID | None  # the API key that sent it
    content_id: UUID | None = None  # None: it is stored as its MIME
    useful_for: float | None = None  # seconds for which it may still be sent; None: without a limit
    has_suppressions: bool = False  # its tenant may have suppressed a recipient
    traceparent: str | None = None  # the trace of the request that brought it
    received: bool = False  # another server sent it to mailboxes here

    @property
    def own_mail_from(self) -> bool:
        """Whether the message names an envelope sender other than the address of From."""
        return self.sender != self.mail_from and not self.sender.endswith(f"<{self.mail_from}>")

    def suppressible(self, claim: Claim) -> bool:
        """Return whether its tenant may have suppressed a recipient: what was received is for mailboxes here."""
        return self.has_suppressions and (not self.received or claim.received_for is not None)

    @property
    def from_address(self) -> str:
        """The address of From, by which an SMTP account and DKIM keys are chosen; empty if a stranger wrote it."""
        if self.received:
            return ""
        return in_mailbox(self.sender) if self.own_mail_from else self.mail_from


class Claimed(NamedTuple):
    """Claims of one commit, and what their transactions need of each message, by its id."""

    claims: list[Claim]
    messages: dict[UUID, Loaded]


def claim(
    statements: Statements,
    owner: UUID,
    message_ids: Sequence[UUID],
    lease_seconds: int,
    lease_ends: float,
    *,
    isolated: bool = False,
) -> Claimed:
    """Claim the deliveries of these messages that are pending, due and unclaimed; load the messages.

    On PostgreSQL this is one statement. No other statement may follow. ``lease_ends`` is when their
    leases of ``lease_seconds`` end by the boot clock. ``isolated`` also claims deliveries that have
    killed workers (``crashes`` ≥ ``ISOLATED_FROM``); only a child process may ask for it.
    """
    dialect = statements.dialect
    given = {"owner": owner, "messages": id_rows(dialect, sorted(message_ids)), "seconds": lease_seconds}
    if dialect == "postgresql":
        found = statements.ask(_claim_and_load(isolated), given, last=True)
        claims = [_claimed(row, lease_ends) for row in found]
        # Only the first claim of a message comes with its MIME.
        messages = {row[1]: Loaded(_unescaped(row[_TOLD]), *row[_TOLD + 2 :]) for row in found if row[_TOLD + 1]}
    else:
        claims = [_claimed(row, lease_ends) for row in statements.ask(_claim(isolated), given)]
        given = {"messages": id_rows(dialect, {one.message_id for one in claims})}
        messages = {row[0]: Loaded(*row[1:]) for row in statements.ask(_load(), given, last=True)}
    return Claimed(claims, messages)


def _claimed(row: tuple[Any, ...], lease_ends: float) -> Claim:
    *told, received_for = row[:_TOLD]
    one = Claim(*(*told, lease_ends))
    one.received_for = received_for
    return one


@cache
def _claim_and_load(isolated: bool) -> CompiledStatement:
    """Return the statement for PostgreSQL.

    RETURNING could join the messages, but not tell which claim of a message is the first.
    """
    taken = _taken("postgresql", isolated).cte("taken")
    first = func.row_number().over(partition_by=taken.c.message_id, order_by=taken.c.delivery_id) == 1
    # As text it takes half the time: nearly all mail is ASCII, and the driver reads bytes from hexadecimal digits.
    raw = case((and_(_M.size <= EAGER_SIZE, first), func.encode(_M.raw, "escape", type_=Text)))
    both = select(*taken.c, raw, first.label("first"), *_LOADED)
    both = both.join_from(taken, MESSAGES, taken.c.message_id == _M.id)
    # The ids once more: PostgreSQL does not know how many rows were taken, and might read all messages.
    return CompiledStatement(both.where(among("postgresql", _M.id, "messages")))


@cache
def _claim(isolated: bool) -> CompiledStatement:
    """Return the statement for SQLite, whose RETURNING knows no other table."""
    return CompiledStatement(_taken("sqlite", isolated))


@cache
def _load() -> CompiledStatement:
    """Return the statement that loads messages for SQLite."""
    raw = case((_M.size <= EAGER_SIZE, _M.raw))
    return CompiledStatement(select(_M.id, raw, *_LOADED).where(among("sqlite", _M.id, "messages")))


def _taken(dialect: str, isolated: bool) -> ReturningUpdate[Any]:
    """Return the statement that claims. Its rows begin as :class:`Claim` does."""
    due = select(_D.id).where(*_IDLE_OF_MESSAGE, _D.next_attempt_at <= db_now(), ~suspended(_D.tenant_id))
    if not isolated:
        due = due.where(_D.crashes < ISOLATED_FROM)
    # Rows that the publisher has locked are waited for, not skipped: it marks them at the moment
    # their hint arrives here, and a skipped row would not be hinted again for a minute.
    told = (
        _D.id.label("delivery_id"),
        _D.message_id,
        _D.tenant_id,
        _D.address,
        _D.lane,
        _D.attempt.label("claim_number"),
        _D.tries.label("schedule_step"),
        _D.unknowns,
        _D.received_for,
    )
    assert len(told) == _TOLD
    return leasing.taken(dialect, DELIVERIES, _locked(dialect, due)).returning(*told)


def _unescaped(text: str | None) -> bytes | None:
    """Return the bytes that PostgreSQL's ``encode(…, 'escape')`` made a text of.

    It doubles each backslash, and writes zero bytes and those above 127 as a backslash and three octal digits.
    """
    if text is None:
        return None
    found = text.encode("ascii")
    return _ESCAPED.sub(_byte, found) if b"\\" in found else found


_ESCAPED = re.compile(rb"\\(\\|[0-7]{3})")


def _byte(escaped: re.Match[bytes]) -> bytes:
    return b"\\" if escaped[1] == b"\\" else bytes((int(escaped[1], 8),))


def _locked(dialect: str, rows: Select[tuple[UUID]]) -> CTE:
    """Lock those of the ``rows`` that belong to the messages given."""
    return leasing.locked(dialect, ids(dialect, "messages"), _D.message_id, rows)


def renew(database: Database, owner: UUID, claims: Sequence[Claim], lease_seconds: int) -> set[tuple[UUID, int]]:
    """Renew the leases that still stand, and commit; return the ``key`` of each of their claims.

    The other claims were taken from this worker. Raises :class:`DatabaseUnavailable`.
    """
    given = leasing.prolonging(database.dialect, owner, {one.delivery_id for one in claims}, lease_seconds)
    return {(identifier, number) for identifier, number in database.ask(_renewed(database.dialect), given)}


@cache
def _renewed(dialect: str) -> CompiledStatement:
    return CompiledStatement(leasing.prolonged(dialect, DELIVERIES))


def put_early_back(statements: Statements, message_ids: Sequence[UUID]) -> None:
    """Note that these messages' hints came before their deliveries could be claimed.

    Jitter makes some deliveries due after the delay queue's hint. The tick then hints them again.
    Deliveries that may be claimed by now are included: since the claim that did not find them, they
    may have become due, or their tenant active. If another hint is under way, the tick's is one too
    many, which is harmless. No other statement may follow.
    """
    given = {"messages": id_rows(statements.dialect, sorted(message_ids))}
    statements.last([StatementStep(_put_early_back(statements.dialect), [given])])


@cache
def _put_early_back(dialect: str) -> CompiledStatement:
    hinted = (_D.published_at.is_not(None), _D.next_attempt_at.is_not(None))
    found = _locked(dialect, select(_D.id).where(*_IDLE_OF_MESSAGE, *hinted))
    return CompiledStatement(update(DELIVERIES).where(chosen(dialect, _D.id, found)).values(published_at=None))


def next_isolated(session: Session) -> UUID | None:
    """Return a message that is due and must be sent alone, or None if there is none.

    Such messages have no hints: workers look for them here.
    """
    statement = select(_D.message_id).where(
        *_IDLE, _D.crashes >= ISOLATED_FROM, _D.next_attempt_at <= db_now(), ~suspended(_D.tenant_id)
    )
    return session.execute(statement.order_by(_D.next_attempt_at).limit(1)).scalar_one_or_none()
