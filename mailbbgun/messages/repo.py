"""Queries over messages and their deliveries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Uuid,
    and_,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    table,
    true,
    union_all,
)
from sqlalchemy import exists as sql_exists
from sqlalchemy.orm import Session

from mailbbgun.core.ids import first_id_at
from mailbbgun.database.db import ascii_lower, dialect_of
from mailbbgun.database.texts import domain_of, mailbox_in, message_id_is_given
from mailbbgun.messages.models import DELIVERIES, MESSAGES, Delivery, Message, MessageCount, MessageTag
from mailbbgun.messages.search import has_text, id_within, of_medium, stored_address, stored_message_id, to_channel
from mailbbgun.messages.status import CANCELLED, DELIVERED, ERROR, Reason, reason_of

#: Messages whose subjects are read for one list, at most: no index helps to find a part of a text.
SEARCHED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The filters of a list of a tenant's messages.

    ``since`` is inclusive, ``until`` exclusive; ``after`` is the last id of the previous page. ``to``,
    ``domain`` (in A-labels) and ``reason`` must hold for one and the same delivery. ``tests_only``:
    only test messages, whatever else is asked for.
    """

    tenant_id: UUID
    tests_only: bool = False
    limit: int
    offset: int
    after: UUID | None
    status: str | None = None
    to: str | None = None
    domain: str | None = None
    reason: str | None = None
    medium: str | None = None  # mail or slack
    channel: str | None = None  # a recipient in Slack
    sender: str | None = None  # an address
    subject: str | None = None  # a part of it
    message_id_header: str | None = None
    tag: str | None = None
    batch_id: UUID | None = None
    test: bool | None = None
    received: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


# Columns that details leave out: they are large, or say nothing to people.
_UNSHOWN = ("raw", "personal")
# All filters but the status: the database keeps the number of messages of each status.
_NARROWING = (
    *("to", "channel", "domain", "reason", "medium", "sender", "subject", "message_id_header", "tag", "batch_id"),
    *("test", "received", "since", "until"),
)
# The rows of batches, whose room is above this one: they name the ids between which their messages are.
_BATCHES = table("batches", *(column(name, Uuid()) for name in ("id", "tenant_id", "first_id", "last_id")))
_COLUMNS = (
    Message.id,
    Message.status,
    Message.subject,
    Message.sender,
    Message.tags,
    Message.priority,
    Message.test,
    Message.received,
    Message.created_at,
    Message.send_at,
)


def is_stored(session: Session, message_id: UUID) -> bool:
    """Say whether there is such a message, of any tenant."""
    return bool(session.scalar(select(sql_exists().where(Message.id == message_id))))


def ended_unsent(message_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Return an SQL condition: this message has ended, and none of its recipients can have got it."""
    ended = select(MESSAGES.c.id).where(MESSAGES.c.id == message_id, MESSAGES.c.status.in_((ERROR, CANCELLED)))
    its = DELIVERIES.c
    sent = or_(its.status == DELIVERED, its.reason == Reason.OUTCOME_UNKNOWN.value)
    return and_(ended.exists(), ~select(its.id).where(its.message_id == message_id, sent).exists())


def test_messages(tests_only: bool) -> list[ColumnElement[bool]]:
    """Return the condition that a message is a test message, if ``tests_only``."""
    return [Message.test == true()] if tests_only else []


def of_test_messages(column: Any, tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    """Return the condition that rows with this ``message_id`` belong to a tenant's test message, if
    ``tests_only``.
    """
    return (
        [column.in_(select(Message.id).where(Message.tenant_id == tenant_id, *test_messages(True)))]
        if tests_only
        else []
    )


def exists(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> bool:
    """Say whether a tenant has such a message. Here and below ``tests_only`` means: a test message."""
    its = (Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    return session.scalar(select(Message.id).where(*its)) is not None


def page(session: Session, wanted: Wanted) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of messages, newest first, how many match in all, and the last id if there are more.

    This takes three statements. A list by ``subject`` takes one more, and looks only at the newest
    ``SEARCHED`` messages before ``until``, unless ``to`` or ``message_id_header`` narrow it to a few.
    """
    matching = _matching(wanted) + _searched(session, wanted)
    count = _count(session, wanted, matching)
    shown, last = _shown(session, wanted, matching) if wanted.limit else ([], None)
    return shown, count, last


def next_ones(session: Session, wanted: Wanted) -> tuple[list[dict[str, Any]], UUID | None]:
    """Return what :func:`page` does, without the count, which would cost more with each page of an export."""
    return _shown(session, wanted, _matching(wanted) + _searched(session, wanted))


def _shown(
    session: Session, wanted: Wanted, matching: Sequence[ColumnElement[bool]]
) -> tuple[list[dict[str, Any]], UUID | None]:
    older = [] if wanted.after is None else [Message.id < wanted.after]
    newest_first = select(*_COLUMNS).where(*matching, *older).order_by(Message.id.desc())
    statement = newest_first.offset(wanted.offset).limit(wanted.limit + 1)
    found = [dict(row) for row in session.execute(statement).mappings()]
    shown = found[: wanted.limit]
    to, reasons = _recipients(session, wanted, [message["id"] for message in shown])
    messages = [{**message, "to": to[message["id"]], "reason": reason_of(reasons[message["id"]])} for message in shown]
    return messages, shown[-1]["id"] if len(found) > wanted.limit else None


def details(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> dict[str, Any] | None:
    """Return a tenant's message with its deliveries; None if there is none."""
    message = session.scalar(
        select(Message).where(Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    )
    if message is None:
        return None
    its = (
        Delivery.tenant_id == tenant_id,
        Delivery.message_id == message_id,
        *of_test_messages(Delivery.message_id, tenant_id, tests_only),
    )
    deliveries = session.scalars(select(Delivery).where(*its).order_by(Delivery.id)).all()
    by_kind: Mapping[str, list[str]] = {
        kind: [one.address for one in deliveries if one.kind == kind] for kind in ("to", "cc", "bcc")
    }
    names = [name for name in Message.__mapper__.column_attrs.keys() if name not in _UNSHOWN]  # noqa: SIM118 - not a dict
    columns = {name: getattr(message, name) for name in names}
    return {**columns, **by_kind, "reason": reason_of({one.reason for one in deliveries}), "deliveries": deliveries}


def sender(session: Session, tenant_id: UUID, message_id: UUID) -> str | None:
    """Return the From of a tenant's message, as people read it; None if there is none."""
    return session.scalar(select(Message.sender).where(Message.tenant_id == tenant_id, Message.id == message_id))


class AllowedSenders(NamedTuple):
    """The addresses that a message is from: in its header, and in its envelope.

    ``test``: it goes to the catcher alone.
    """

    header: str
    envelope: str
    test: bool


def senders(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> AllowedSenders:
    """Return the addresses that a tenant's message is from. The message must exist."""
    its = (Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    return AllowedSenders(
        *session.execute(select(mailbox_in(Message.sender), Message.mail_from, Message.test).where(*its)).one()
    )


def has_body(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> bool:
    """Say whether a tenant's message still has a body, if there is such a message. It keeps it until the commit."""
    its = (Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    bodies = select(or_(Message.raw.is_not(None), Message.content_id.is_not(None)))
    return session.scalar(bodies.where(*its).with_for_update()) is not False


def lane(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> str:
    """Return the lane of a message's hints."""
    its = (
        Delivery.tenant_id == tenant_id,
        Delivery.message_id == message_id,
        *of_test_messages(Delivery.message_id, tenant_id, tests_only),
    )
    return session.scalars(select(Delivery.lane).where(*its).limit(1)).one()


def sum_up_counts(session: Session) -> None:
    """Replace the count rows of each tenant and status by one. Safe beside writers and readers.

    Does nothing on SQLite, whose triggers keep one row each.
    """
    if dialect_of(session) == "postgresql":
        gone = delete(MessageCount).returning(MessageCount.tenant_id, MessageCount.status, MessageCount.n).cte("gone")
        whose = (gone.c.tenant_id, gone.c.status)
        sums = select(*whose, cast(func.sum(gone.c.n), BigInteger)).group_by(*whose)
        session.execute(insert(MessageCount).from_select(["tenant_id", "status", "n"], sums, include_defaults=False))


def _count(session: Session, wanted: Wanted, matching: Sequence[ColumnElement[bool]]) -> int:
    """Return how many messages match. Without filters but the status, read the numbers that triggers keep."""
    narrow = (getattr(wanted, name) for name in _NARROWING)
    if wanted.tests_only or any(value is not None for value in narrow):
        return session.scalar(select(func.count()).select_from(Message).where(*matching)) or 0
    kept = select(func.sum(MessageCount.n)).where(MessageCount.tenant_id == wanted.tenant_id)
    if wanted.status is not None:
        kept = kept.where(MessageCount.status == wanted.status)
    return int(session.scalar(kept) or 0)


def _matching(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Message.tenant_id == wanted.tenant_id, *test_messages(wanted.tests_only)]
    if wanted.status is not None:
        conditions.append(Message.status == wanted.status)
    if one_delivery := _of_delivery(wanted):
        conditions.append(
            Message.id.in_(select(Delivery.message_id).where(Delivery.tenant_id == wanted.tenant_id, *one_delivery))
        )
    if wanted.medium is not None:
        conditions.append(of_medium(ascii_lower(mailbox_in(Message.sender)), wanted.medium))
    if wanted.sender is not None:
        sender = stored_address(wanted.sender)
        conditions.append(ascii_lower(mailbox_in(Message.sender)) == ascii_lower(mailbox_in(literal(sender))))
    if wanted.message_id_header is not None:
        conditions.append(Message.id.in_(_with_message_id(wanted, stored_message_id(wanted.message_id_header))))
    if wanted.subject is not None:
        conditions.append(has_text(Message.subject, wanted.subject))
    if wanted.tag is not None:
        conditions.append(
            Message.id.in_(
                select(MessageTag.message_id).where(
                    MessageTag.tenant_id == wanted.tenant_id, MessageTag.tag == wanted.tag
                )
            )
        )
    if wanted.batch_id is not None:
        conditions += _of_batch(wanted.tenant_id, wanted.batch_id)
    if wanted.test is not None:
        conditions.append(Message.test == wanted.test)
    if wanted.received is not None:
        conditions.append(Message.received == wanted.received)
    if wanted.since is not None:
        conditions.append(Message.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        conditions.append(Message.id < first_id_at(wanted.until))
    return conditions


def _of_batch(tenant_id: UUID, batch_id: UUID) -> list[ColumnElement[bool]]:
    """Return the conditions that a message came with a batch: by the index on a tenant's ids."""
    its = (_BATCHES.c.tenant_id == tenant_id, _BATCHES.c.id == batch_id)
    first, last = (select(_BATCHES.c[end]).where(*its).scalar_subquery() for end in ("first_id", "last_id"))
    return [Message.id.between(first, last), Message.batch_id == batch_id]


def _of_delivery(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.to is not None:
        address = stored_address(wanted.to)
        conditions.append(domain_of(Delivery.address) == address.rpartition("@")[2])
        conditions.append(ascii_lower(Delivery.address) == ascii_lower(literal(address)))
    if wanted.channel is not None:
        conditions += to_channel(Delivery.address, wanted.channel)
    if wanted.domain is not None:
        conditions.append(domain_of(Delivery.address) == wanted.domain)
    if wanted.reason is not None:
        conditions.append(Delivery.reason == wanted.reason)
    return conditions


def _with_message_id(wanted: Wanted, message_id: str) -> Select[Any] | CompoundSelect[Any]:
    """Select the ids of messages with this Message-ID: by the index, or by the id in one of our own.

    The index holds only the Message-IDs that clients gave.
    """
    tests = [MESSAGES.c.test == true()] if wanted.tests_only else []
    same = (MESSAGES.c.tenant_id == wanted.tenant_id, MESSAGES.c.message_id == message_id, *tests)
    given = select(MESSAGES.c.id).where(*same, message_id_is_given(MESSAGES.c.message_id, MESSAGES.c.id))
    own = id_within(message_id)
    return given if own is None else union_all(given, select(MESSAGES.c.id).where(*same, MESSAGES.c.id == own))


def _searched(session: Session, wanted: Wanted) -> list[ColumnElement[bool]]:
    """Return the condition that keeps a search by subject to the newest ``SEARCHED`` messages."""
    if wanted.subject is None or wanted.to is not None or wanted.message_id_header is not None:
        return []
    before = [] if wanted.until is None else [Message.id < first_id_at(wanted.until)]
    whose = (Message.tenant_id == wanted.tenant_id, *test_messages(wanted.tests_only))
    newest_first = select(Message.id).where(*whose, *before).order_by(Message.id.desc())
    oldest = session.scalar(newest_first.offset(SEARCHED - 1).limit(1))
    return [] if oldest is None else [Message.id >= oldest]


def _recipients(
    session: Session, wanted: Wanted, message_ids: Sequence[UUID]
) -> tuple[Mapping[UUID, list[str]], Mapping[UUID, set[str]]]:
    """Return by message the recipients in To, and the reasons of failed deliveries."""
    shown = or_(Delivery.kind == "to", Delivery.reason.is_not(None))
    tests = of_test_messages(Delivery.message_id, wanted.tenant_id, wanted.tests_only)
    its = (Delivery.tenant_id == wanted.tenant_id, Delivery.message_id.in_(message_ids), shown, *tests)
    statement = (
        select(Delivery.message_id, Delivery.kind, Delivery.address, Delivery.reason).where(*its).order_by(Delivery.id)
    )
    to, reasons = defaultdict[UUID, list[str]](list), defaultdict[UUID, set[str]](set)
    for message_id, kind, address, reason in session.execute(statement):
        if kind == "to":
            to[message_id].append(address)
        if reason is not None:
            reasons[message_id].add(reason)
    return to, reasons
