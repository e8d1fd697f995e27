"""Statements about deliveries that reports came back for. They serve all tenants, as the worker's do."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Uuid, bindparam, or_, select, update

from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.db import Database, ascii_lower, db_now
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.events.models import EVENTS
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.messages.status import DELIVERED, ERROR, PENDING
from mailbbgun.return_paths.judge import Happened

#: Events of one delivery that are looked at, at most: the newest.
MOST_EVENTS = 100

_D, _M, _E = DELIVERIES.c, MESSAGES.c, EVENTS.c
_ID = bindparam("delivery", type_=Uuid())
_OWN = bindparam("tenant", type_=Uuid())
_TELLING = (Kind.DELIVERED, Kind.BOUNCED, Kind.DELAYED, Kind.COMPLAINED, Kind.RETURNED)


class ReturnedDelivery(NamedTuple):
    """A delivery that a report is about."""

    id: UUID
    message_id: UUID
    tenant_id: UUID
    address: str
    status: str
    test: bool
    key_id: UUID | None


_LOCKED = CompiledStatement(
    select(_D.id, _D.message_id, _D.tenant_id, _D.address, _D.status, _M.test, _M.key_id)
    .join(MESSAGES, _M.id == _D.message_id)
    .where(_D.id == _ID)
    .with_for_update(of=DELIVERIES)
)
_HAPPENED = CompiledStatement(
    select(_E.kind, _E.data)
    .where(
        _E.tenant_id == _OWN,
        _E.message_id == bindparam("message", type_=Uuid()),
        _E.delivery_id == _ID,
        or_(*(_E.kind == kind.value for kind in _TELLING)),
    )
    .order_by(_E.id.desc())
    .limit(MOST_EVENTS)
)
_IN_HAND = CompiledStatement(select(_D.id).where(_D.id == _ID, _D.status == PENDING, _D.lease_owner.is_not(None)))
_BOUNCED = CompiledStatement(
    update(DELIVERIES)
    .where(_D.id == _ID, _D.status == DELIVERED)
    .values(
        status=ERROR,
        reason=Reason.BOUNCED.value,
        reply_code=bindparam("code"),
        reply=bindparam("reply_text"),
        finished_at=db_now(),
    )
)


def locked(statements: Statements, delivery_id: UUID) -> ReturnedDelivery | None:
    """Return a delivery, locked until the commit; None if retention has deleted it."""
    found = statements.ask(_LOCKED, {"delivery": delivery_id})
    return ReturnedDelivery(*found[0]) if found else None


def happened(statements: Statements, one: ReturnedDelivery) -> Sequence[Happened]:
    """Return the events of a delivery that count for :func:`judge.decided`, newest first."""
    given = {"tenant": one.tenant_id, "message": one.message_id, "delivery": one.id}
    return [Happened(kind, data) for kind, data in statements.ask(_HAPPENED, given)]


def bounced(delivery_id: UUID, code: int | None, reply: str | None) -> StatementStep:
    """Return the step that makes a delivered delivery ERROR, bounced."""
    return StatementStep(_BOUNCED, [{"delivery": delivery_id, "code": code, "reply_text": reply}])


def in_hand(database: Database, delivery_id: UUID) -> bool:
    """Return whether a worker has claimed a delivery now. Raises :class:`DatabaseUnavailable`."""
    return bool(database.find(_IN_HAND, {"delivery": delivery_id}))


def owner(database: Database, delivery_id: UUID) -> UUID | None:
    """Return whose a delivery is; None if retention has deleted it. Raises :class:`DatabaseUnavailable`."""
    found = database.find(_OWNER, {"delivery": delivery_id})
    return found[0][0] if found else None


_OWNER = CompiledStatement(select(_D.tenant_id).where(_D.id == _ID))


def named(database: Database, header: str, addresses: Collection[str]) -> Sequence[UUID]:
    """Return the deliveries of the message with this Message-ID to these recipients.

    Only a Message-ID of our own making is found: it begins with the message's id. One that a client
    gave need not be unique among tenants. Raises :class:`DatabaseUnavailable`.
    """
    try:
        message_id = UUID(header.strip().removeprefix("<")[:36])
    except ValueError:
        return []
    wanted = {one.lower() for one in addresses}
    found = database.find(_named(), {"message": message_id, "header": header.strip()})
    return [identifier for identifier, address in found if address in wanted]


@cache
def _named() -> CompiledStatement:
    its = (_D.message_id == bindparam("message", type_=Uuid()), MESSAGES.c.message_id == bindparam("header"))
    return CompiledStatement(
        select(_D.id, ascii_lower(_D.address)).join(MESSAGES, _M.id == _D.message_id).where(*its).order_by(_D.id)
    )
