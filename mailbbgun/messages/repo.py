"""Queries over messages and their deliveries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize
from uuid import UUID

import idna
from sqlalchemy import BigInteger, ColumnElement, cast, delete, func, insert, literal, select, true
from sqlalchemy import exists as sql_exists
from sqlalchemy.orm import Session

from mailbbgun.base.db import ascii_lower, dialect_of
from mailbbgun.base.ids import first_id_at
from mailbbgun.messages.models import Delivery, Message, MessageCount, MessageTag


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of a tenant's messages a list shows. ``since`` is in, ``until`` is not; ``after`` is the last id of the page before.

    ``tests_only``: none but test messages, whatever else is asked for.
    """

    tenant_id: UUID
    tests_only: bool = False
    limit: int
    offset: int
    after: UUID | None
    status: str | None = None
    to: str | None = None
    tag: str | None = None
    test: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


_SHOWN = (Message.id, Message.status, Message.subject, Message.sender, Message.tags, Message.priority, Message.test, Message.created_at)


def is_stored(session: Session, message_id: UUID) -> bool:
    """Say whether there is such a message, whosever it is."""
    return bool(session.scalar(select(sql_exists().where(Message.id == message_id))))


def test_messages(tests_only: bool) -> list[ColumnElement[bool]]:
    """Return the condition that a message is a test message, if ``tests_only``."""
    return [Message.test == true()] if tests_only else []


def of_test_messages(column: Any, tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    """Return the condition that what has this ``message_id`` belongs to a test message of a tenant, if ``tests_only``."""
    return [column.in_(select(Message.id).where(Message.tenant_id == tenant_id, *test_messages(True)))] if tests_only else []


def exists(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> bool:
    """Say whether a tenant has such a message; here and below none but a test message if ``tests_only``."""
    its = (Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only))
    return session.scalar(select(Message.id).where(*its)) is not None


def page(session: Session, wanted: Wanted) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of messages, newest first, how many match in all, and the last id if there is more. Three statements, however many."""
    matching = _matching(wanted)
    count = _count(session, wanted, matching)
    if not wanted.limit:
        return [], count, None
    older = [] if wanted.after is None else [Message.id < wanted.after]
    statement = select(*_SHOWN).where(*matching, *older).order_by(Message.id.desc()).offset(wanted.offset).limit(wanted.limit + 1)
    found = [dict(row) for row in session.execute(statement).mappings()]
    more = len(found) > wanted.limit
    shown = found[: wanted.limit]
    to = _recipients(session, wanted, [message["id"] for message in shown])
    return [{**message, "to": to[message["id"]]} for message in shown], count, shown[-1]["id"] if more else None


def details(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> dict[str, Any] | None:
    """Return a tenant's message with its deliveries; None if it has none such."""
    message = session.scalar(select(Message).where(Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only)))
    if message is None:
        return None
    its = (Delivery.tenant_id == tenant_id, Delivery.message_id == message_id, *of_test_messages(Delivery.message_id, tenant_id, tests_only))
    deliveries = session.scalars(select(Delivery).where(*its).order_by(Delivery.id)).all()
    by_kind: Mapping[str, list[str]] = {kind: [one.address for one in deliveries if one.kind == kind] for kind in ("to", "cc", "bcc")}
    columns = {name: getattr(message, name) for name in Message.__mapper__.column_attrs.keys() if name != "raw"}  # noqa: SIM118 - not a dict
    return {**columns, **by_kind, "deliveries": deliveries}


def raw(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> bytes | None:
    """Return the bytes of a tenant's message; None if it has none such."""
    return session.scalar(select(Message.raw).where(Message.tenant_id == tenant_id, Message.id == message_id, *test_messages(tests_only)))


def lane(session: Session, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> str:
    """Return the lane a message's hints travel on."""
    its = (Delivery.tenant_id == tenant_id, Delivery.message_id == message_id, *of_test_messages(Delivery.message_id, tenant_id, tests_only))
    return session.scalars(select(Delivery.lane).where(*its).limit(1)).one()


def sum_up_counts(session: Session) -> None:
    """Put one row in the place of all rows of a tenant's status. Safe beside others who count, sum up or read. Nothing to do on SQLite."""
    if dialect_of(session) == "postgresql":  # SQLite's triggers change one row each
        gone = delete(MessageCount).returning(MessageCount.tenant_id, MessageCount.status, MessageCount.n).cte("gone")
        whose = (gone.c.tenant_id, gone.c.status)
        sums = select(*whose, cast(func.sum(gone.c.n), BigInteger)).group_by(*whose)
        session.execute(insert(MessageCount).from_select(["tenant_id", "status", "n"], sums, include_defaults=False))


def _count(session: Session, wanted: Wanted, matching: Sequence[ColumnElement[bool]]) -> int:
    """Return how many match; of all messages, and of all that have a status, the database keeps count."""
    if wanted.tests_only or wanted.test is not None or any((wanted.to, wanted.tag, wanted.since, wanted.until)):
        return session.scalar(select(func.count()).select_from(Message).where(*matching)) or 0
    kept = select(func.sum(MessageCount.n)).where(MessageCount.tenant_id == wanted.tenant_id)
    if wanted.status is not None:
        kept = kept.where(MessageCount.status == wanted.status)
    return int(session.scalar(kept) or 0)


def _matching(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Message.tenant_id == wanted.tenant_id, *test_messages(wanted.tests_only)]
    if wanted.status is not None:
        conditions.append(Message.status == wanted.status)
    if wanted.to is not None:
        recipient = ascii_lower(Delivery.address) == ascii_lower(literal(_stored_form(wanted.to)))
        conditions.append(Message.id.in_(select(Delivery.message_id).where(Delivery.tenant_id == wanted.tenant_id, recipient)))
    if wanted.tag is not None:
        conditions.append(Message.id.in_(select(MessageTag.message_id).where(MessageTag.tenant_id == wanted.tenant_id, MessageTag.tag == wanted.tag)))
    if wanted.test is not None:
        conditions.append(Message.test == wanted.test)
    if wanted.since is not None:
        conditions.append(Message.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        conditions.append(Message.id < first_id_at(wanted.until))
    return conditions


def _stored_form(address: str) -> str:
    """Return an address as accept stores it, but for the case of its local part: in NFC (RFC 6532 §3.1), the domain in lower case and A-labels."""
    local, at, domain = address.strip().rpartition("@")
    try:
        return f"{normalize('NFC', local)}{at}{domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError:  # no domain at all: it will match nothing
        return address


def _recipients(session: Session, wanted: Wanted, message_ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
    its = (Delivery.tenant_id == wanted.tenant_id, Delivery.message_id.in_(message_ids), Delivery.kind == "to")
    tests = of_test_messages(Delivery.message_id, wanted.tenant_id, wanted.tests_only)
    statement = select(Delivery.message_id, Delivery.address).where(*its, *tests).order_by(Delivery.id)
    found: dict[UUID, list[str]] = defaultdict(list)
    for message_id, address in session.execute(statement):
        found[message_id].append(address)
    return found
