"""Claims: taking deliveries into one worker's hands for the time of a lease. Set-based statements by the database's clock alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import case, select, update
from sqlalchemy.orm import Session

from mailbbgun.base.db import db_now, id_rows, ids
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.status import PENDING

ALONE_FROM = 2  # claims that died with their worker; from here on a message is sent alone, in a child process
EAGER_SIZE = 65_536  # bytes; larger messages are read from the database only when their turn comes

_IDLE = (Delivery.status == PENDING, Delivery.lease_owner.is_(None))


@dataclass(slots=True, eq=False)
class Claim:
    """One delivery in this worker's hands. ``lease_ends`` is boot-clock seconds, moved on by renewals."""

    delivery_id: UUID
    message_id: UUID
    address: str
    lane: str
    attempt: int
    tries: int
    unknowns: int
    lease_ends: float


@dataclass(slots=True, eq=False)
class Transaction:
    """One mail transaction (RFC 5321 §3.3): a message to recipients that share a route."""

    message_id: UUID
    mail_from: str
    smtputf8: bool
    raw: bytes | None  # None: read it when its turn comes
    route: str
    claims: list[Claim]
    started: float | None = field(default=None)  # boot-clock seconds

    @property
    def lane(self) -> str:
        """The lane it waits on."""
        return self.claims[0].lane


def claim(session: Session, owner: UUID, message_ids: Sequence[UUID], lease_seconds: int, lease_ends: float, *, alone: bool = False) -> list[Claim]:
    """Claim what is due, pending and unclaimed of these messages and return it.

    ``alone`` takes also what killed workers before (``crashes`` ≥ ``ALONE_FROM``); only a child process may ask for that.
    """
    given = ids(session.get_bind().dialect.name, "messages").c
    due = select(Delivery.id).where(*_IDLE, Delivery.message_id.in_(select(given.id)), Delivery.next_attempt_at <= db_now())
    if not alone:
        due = due.where(Delivery.crashes < ALONE_FROM)
    # Locked first, in id order, so that two workers with the same hints in hand cannot lock each other out. Not SKIP LOCKED: the
    # publisher marks a row at the very moment its hint arrives here, and what is skipped then is not hinted again for a minute.
    chosen = due.order_by(Delivery.id).with_for_update().cte("due").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = (
        update(Delivery)
        .where(Delivery.id.in_(select(chosen.c.id)))
        .values(lease_owner=owner, lease_until=db_now(lease_seconds), attempt=Delivery.attempt + 1)
        .returning(
            Delivery.id, Delivery.message_id, Delivery.address, Delivery.lane, Delivery.attempt, Delivery.tries, Delivery.unknowns
        )
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(statement, {"messages": id_rows(message_ids)}).all()
    return [Claim(*row, lease_ends=lease_ends) for row in rows]


def load(session: Session, message_ids: Collection[UUID]) -> dict[UUID, tuple[str, bool, bytes | None]]:
    """Return (envelope sender, needs SMTPUTF8, MIME bytes or None if large) of each message."""
    given = ids(session.get_bind().dialect.name, "messages").c
    raw = case((Message.size <= EAGER_SIZE, Message.raw))
    statement = select(Message.id, Message.mail_from, Message.smtputf8, raw).where(Message.id.in_(select(given.id)))
    rows = session.execute(statement, {"messages": id_rows(list(message_ids))}).all()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def load_raw(session: Session, message_id: UUID) -> bytes:
    """Return the MIME bytes of one message."""
    return session.execute(select(Message.raw).where(Message.id == message_id)).scalar_one()


def renew(session: Session, owner: UUID, claims: Sequence[Claim], lease_seconds: int) -> set[UUID]:
    """Prolong the leases that still stand and return their delivery ids; the others were taken from us."""
    given = ids(session.get_bind().dialect.name, "claims").c
    statement = (
        update(Delivery)
        .where(Delivery.id.in_(select(given.id)), Delivery.lease_owner == owner)
        .values(lease_until=db_now(lease_seconds))
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return set(session.execute(statement, {"claims": id_rows([one.delivery_id for one in claims])}).scalars())


def put_early_back(session: Session, message_ids: Sequence[UUID]) -> None:
    """Forget delay hints that came before their delivery was due (jitter); the tick hints it again when it is.

    Whether it is due by now is not asked: it may have become so since the claim that found nothing.
    """
    given = ids(session.get_bind().dialect.name, "messages").c
    statement = (
        update(Delivery)
        .where(Delivery.message_id.in_(select(given.id)), *_IDLE, Delivery.published_at < Delivery.next_attempt_at)
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(statement, {"messages": id_rows(message_ids)})


def to_send_alone(session: Session, message_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of these messages that are due but must be sent alone."""
    given = ids(session.get_bind().dialect.name, "messages").c
    statement = select(Delivery.message_id).distinct().where(
        *_IDLE, Delivery.message_id.in_(select(given.id)), Delivery.next_attempt_at <= db_now(), Delivery.crashes >= ALONE_FROM
    )
    return list(session.execute(statement, {"messages": id_rows(message_ids)}).scalars())
