"""What routes change: further deliveries of the message, in the transaction that ends its local delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, bindparam, false, literal, null, select
from sqlalchemy.dialects import postgresql, sqlite

from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.db import db_now
from mailbbgun.mailboxes.quota import QuotaGate
from mailbbgun.mailboxes.store import Stored
from mailbbgun.messages.models import DELIVERIES
from mailbbgun.messages.status import PENDING
from mailbbgun.messages.storing import COUNTERS
from mailbbgun.smtp.outcome import DeliveryIds


class RoutedKind(StrEnum):
    """The ``kind`` of a delivery that a route made."""

    MAIL = "fwd"  # to an address, or to another mailbox here
    POST = "web"  # to a URL


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery that a route makes."""

    address: str
    kind: RoutedKind


@dataclass(frozen=True, slots=True)
class RoutedEffect:
    """The effect of a local delivery that routes are about.

    ``own``: what the recipient's mailbox gets, if anything.
    """

    recipient: str
    new: Sequence[NewDelivery]
    own: Stored | None = None

    @property
    def gate(self) -> QuotaGate | None:
        """The quota of the recipient's mailbox. If it has no room, the routes wait, too."""
        return self.own.gate if self.own else None

    @property
    def mailbox_id(self) -> UUID:
        """The recipient's mailbox, for the gate."""
        assert self.own is not None
        return self.own.mailbox_id

    @property
    def octets(self) -> int:
        """The octets of the mail, for the gate."""
        assert self.own is not None
        return self.own.octets

    @property
    def changes(self) -> Sequence[UUID]:
        """No other delivery is changed."""
        return self.own.changes if self.own else ()

    @property
    def makes_due(self) -> bool:
        """Whether there are new deliveries."""
        return bool(self.new)

    def steps(self, statements: Statements, delivery: DeliveryIds) -> Sequence[StatementStep]:
        """Return the statements that insert the deliveries."""
        steps = [*self.own.steps(statements, delivery)] if self.own else []
        rows: list[dict[str, Any]] = [
            {"new": _id(delivery.message_id, self.recipient, one), "to": one.address, "as": one.kind.value}
            | {"recipient": self.recipient, "delivery": delivery.delivery_id}
            for one in self.new
        ]
        return [*steps, StatementStep(_inserted(statements.dialect), rows)] if rows else steps


def _id(message_id: UUID, recipient: str, new: NewDelivery) -> UUID:
    """Return the id of a delivery. It begins as the message's does, so that it is of version 7 and sorts beside it.

    A message is forwarded to an address once, whichever of its recipients that is for. It is posted for each.
    """
    whom = new.address.lower() if new.kind is RoutedKind.MAIL else f"{new.address} {recipient.lower()}"
    digest = sha256(message_id.bytes + whom.encode("utf-8", "surrogatepass")).digest()
    octets = bytearray(message_id.bytes[:6] + digest[:10])
    octets[6] = octets[6] & 0x0F | 0x70
    octets[8] = octets[8] & 0x3F | 0x80
    return UUID(bytes=bytes(octets))


@cache
def _inserted(dialect: str) -> CompiledStatement:
    """Return the statement that inserts a delivery of the message, on the lane, of another one."""
    given, ours = DELIVERIES.alias("given"), DELIVERIES.c
    values: dict[str, Any] = {"id": bindparam("new", type_=Uuid()), "address": bindparam("to", type_=Text())}
    values |= {"kind": bindparam("as", type_=ours.kind.type), "received_for": bindparam("recipient", type_=Text())}
    values |= {name: given.c[name] for name in ("tenant_id", "message_id", "lane")}
    values |= {"status": literal(PENDING), "next_attempt_at": db_now(), "scheduled": false(), "published_at": null()}
    values |= dict.fromkeys(COUNTERS, literal(0))
    chosen = select(*values.values()).where(given.c.id == bindparam("delivery", type_=Uuid()))
    inserting = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = inserting(DELIVERIES).from_select(list(values), chosen, include_defaults=False)
    return CompiledStatement(statement.on_conflict_do_nothing())
