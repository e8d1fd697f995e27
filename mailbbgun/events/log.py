"""The log of events: appended in the transaction of the change that they tell of, and never changed.

A line for each event is printed after the commit.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ColumnElement, Insert, Select, Text, bindparam, case, cast, func, insert
from sqlalchemy.orm import Session

from mailbbgun.core import logs
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.ids import new_id
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import after_commit, dialect_of
from mailbbgun.database.sql import rows
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.events.models import EVENT_COLUMNS, EVENTS
from mailbbgun.messages.storing import New, copied, given_rows

lines = logging.getLogger("mailbbgun.events")


def event(
    tenant_id: UUID, message_id: UUID | None, delivery_id: UUID | None, kind: Kind, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the row of an event that happens now. Entries of ``data`` that are None are left out."""
    return {
        "id": new_id(),
        "tenant_id": tenant_id,
        "message_id": message_id,
        "delivery_id": delivery_id,
        "at": datetime.now(UTC),
        "kind": kind.value,
        "data": {key: value for key, value in data.items() if value is not None},
    }


def accepted(new: New) -> list[dict[str, Any]]:
    """Return the first events of messages that are about to be stored. :func:`appending` inserts them with the rows."""
    events = []
    for message, its in new:
        whose = message["tenant_id"], message["id"], None
        kind = Kind.RECEIVED if message.get("received") else Kind.ACCEPTED
        events.append(event(*whose, kind, {"recipients": len(its), "size": message["size"]}))
        if (send_at := message.get("send_at")) is not None:
            events.append(event(*whose, Kind.SCHEDULED, {"send_at": rfc3339(send_at)}))
        if "status" in message:  # some of its deliveries have ended: those of suppressed recipients
            ended = [one["id"] for one in its if one.get("reason") == Reason.SUPPRESSED]
            events += [event(message["tenant_id"], message["id"], one, Kind.SUPPRESSED, {}) for one in ended]
    return events


def appending(dialect: str, events: Sequence[Mapping[str, Any]]) -> StatementStep:
    """Return the statement that appends events."""
    return StatementStep(_appended(dialect), [{"events": rows(events)}] if dialect == "postgresql" else events)


def print_lines(events: Sequence[Mapping[str, Any]], keys: Sequence[UUID | None]) -> None:
    """Print a log line for each event, once it is committed. ``keys``: the API key of each event's message."""
    if lines.isEnabledFor(logging.INFO):
        logs.info_all(lines, [(one["kind"], _fields(one, key)) for one, key in zip(events, keys, strict=True)])


def _fields(one: Mapping[str, Any], key: UUID | None) -> dict[str, Any]:
    whose = {"message_id": one["message_id"], "tenant_id": one["tenant_id"], "key_id": key}
    data = one["data"]
    if "filename" in data:  # the name of an attribute of log records
        data = {"file" if name == "filename" else name: value for name, value in data.items()}
    return {**whose, "delivery_id": one["delivery_id"], **data}


def from_rows(chosen: Select[Any]) -> Insert:
    """Return a statement that appends an event for each row of id, tenant, message, delivery, at, kind and data."""
    columns = ["id", "tenant_id", "message_id", "delivery_id", "at", "kind", "data"]
    return insert(EVENTS).from_select(columns, chosen, include_defaults=False)


def with_due(data: ColumnElement[Any], due: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return an event's data on PostgreSQL, with the time of the next attempt if it is not null.

    The time is written as ``core/clock.py`` does. The text is extended, since ``jsonb`` would not keep the order.
    """
    moment = func.to_char(func.timezone("UTC", due), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    longer = func.concat(func.left(cast(data, Text), -1), ',"retry_at":"', moment, '"}')
    return case((due.is_(None), data), else_=cast(longer, JSON))


def append(session: Session, events: Sequence[Mapping[str, Any]]) -> None:
    """Append events; the caller commits."""
    if events:
        step = appending(dialect_of(session), events)
        session.execute(step.statement.statement, step.given)


def log_after_commit(session: Session, events: Sequence[Mapping[str, Any]], keys: Sequence[UUID | None]) -> None:
    """Call :func:`print_lines` after the session's commit."""
    if events:
        after_commit(session, lambda: print_lines(events, keys))


@cache
def _appended(dialect: str) -> CompiledStatement:
    if dialect == "postgresql":
        return CompiledStatement(copied(EVENTS, given_rows("events", EVENTS, EVENT_COLUMNS)))
    return CompiledStatement(insert(EVENTS).values({column: bindparam(column) for column in EVENT_COLUMNS}))
