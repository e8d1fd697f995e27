"""Storing many messages that differ in few columns, each with one delivery: those of a batch.

What they share goes to the database once. On PostgreSQL all are one statement. It costs the database
half of what ``storing.py`` does, and this process a tenth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    Boolean,
    Insert,
    Integer,
    String,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    literal,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import UTCDateTime, db_now
from mailbbgun.database.sql import recordset, rows
from mailbbgun.messages import storing
from mailbbgun.messages.models import DELIVERIES, MESSAGES, TAGS
from mailbbgun.messages.status import PENDING

#: The columns in which the messages differ, besides the Message-ID, which is made of the id.
DIFFERENT = ("id", "subject", "size", "smtputf8", "personal", "metadata")
#: The columns that they share. Their values come from accept, so that a new column of ``messages`` needs no
#: line here.
SHARED = tuple(name for name in storing.MESSAGE_COLUMNS if name not in (*DIFFERENT, "message_id", "status"))

_GIVEN: Mapping[str, TypeEngine[Any]] = {
    "id": Uuid(),
    "delivery_id": Uuid(),
    "address": String(),
    "subject": Text(),
    "size": Integer(),
    "smtputf8": Boolean(),
    "personal": JSON(),
    "metadata": JSON(),
}


Record = Mapping[str, Any]
"""What is a message's own: a value for each name in ``DIFFERENT``, ``delivery_id`` and ``address``. Ids are UUIDs."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all the messages have in common.

    ``columns``: a value for each of :data:`SHARED`. ``hinted``: the hints are published right after the
    commit, so the deliveries are stored as hinted.
    """

    columns: Mapping[str, Any]
    lane: str
    host: str  # of each Message-ID
    hinted: bool
    due: datetime | None = None  # None: now

    @property
    def tenant_id(self) -> UUID:
        """The tenant."""
        found: UUID = self.columns["tenant_id"]
        return found


def steps(dialect: str, shared: Shared, messages: Sequence[Record]) -> list[StatementStep]:
    """Return the statements that store messages of a batch, with their deliveries and tags."""
    tags = list(shared.columns["tags"])
    if dialect != "postgresql":
        return _table_by_table(shared, messages, tags)
    given = {name: shared.columns[name] for name in SHARED}
    given |= {"given": rows(messages), "new_tags": rows([{"tag": tag} for tag in tags]), "due": shared.due}
    given |= {"lane": shared.lane, "after_id": f"@{shared.host}>"}
    return [StatementStep(_all_at_once(shared.hinted, bool(tags)), [given])]


@cache
def _all_at_once(hinted: bool, tagged: bool) -> CompiledStatement:
    """Return the statement for PostgreSQL. ``hinted``: with the mark that the hints are published."""
    given = select(recordset("postgresql", "given", _GIVEN)).cte("given").prefix_with("MATERIALIZED")
    its = given.c
    header = literal("<", Text()).concat(sql_cast(its.id, Text())).concat(bindparam("after_id", type_=Text()))
    values: dict[str, Any] = {name: bindparam(name, type_=MESSAGES.c[name].type) for name in SHARED}
    values |= {name: its[name] for name in DIFFERENT} | {"message_id": header, "status": literal(PENDING)}
    stored = _copied(MESSAGES, values).cte("stored")
    delivery: dict[str, Any] = {"id": its.delivery_id, "message_id": its.id, "address": its.address}
    delivery |= {"tenant_id": bindparam("tenant_id", type_=Uuid()), "lane": bindparam("lane", type_=Text())}
    delivery |= _new_delivery(hinted)
    last = _copied(DELIVERIES, delivery)
    if tagged:
        names = recordset("postgresql", "new_tags", {"tag": Text()})
        columns = {"tag": names.c.tag, "message_id": its.id, "tenant_id": bindparam("tenant_id", type_=Uuid())}
        of_each = select(*columns.values()).select_from(given.join(names, true()))
        last = last.add_cte(insert(TAGS).from_select(list(columns), of_each, include_defaults=False).cte("tagged"))
    return CompiledStatement(last.add_cte(stored))


def _copied(table: Any, values: Mapping[str, Any]) -> Insert:
    return insert(table).from_select(list(values), select(*values.values()), include_defaults=False)


def _new_delivery(hinted: bool) -> dict[str, Any]:
    """Return the columns with which each delivery begins."""
    due: Any = func.coalesce(bindparam("due", type_=UTCDateTime()), db_now())
    begins: dict[str, Any] = {"kind": literal("to"), "status": literal(PENDING), "next_attempt_at": due}
    begins["scheduled"] = bindparam("due", type_=UTCDateTime()).is_not(None)
    begins |= dict.fromkeys(storing.COUNTERS, literal(0))
    return begins | ({"published_at": db_now()} if hinted else {})


def _table_by_table(shared: Shared, messages: Sequence[Record], tags: Sequence[str]) -> list[StatementStep]:
    """Return one statement for each table. SQLite runs in this process, so nothing is sent twice."""
    same, tenant_id = {name: shared.columns[name] for name in SHARED}, shared.tenant_id
    new = [
        same | {name: one[name] for name in DIFFERENT} | {"message_id": f"<{one['id']}@{shared.host}>"}
        for one in messages
    ]
    deliveries = [
        {
            "id": one["delivery_id"],
            "message_id": one["id"],
            "address": one["address"],
            "tenant_id": tenant_id,
            "lane": shared.lane,
            "due": shared.due,
        }
        for one in messages
    ]
    tagged = [{"tag": tag, "message_id": one["id"], "tenant_id": tenant_id} for one in messages for tag in tags]
    into_messages, into_deliveries, into_tags = _one_by_one(shared.hinted)
    found = [StatementStep(into_messages, new), StatementStep(into_deliveries, deliveries)]
    return found + ([StatementStep(into_tags, tagged)] if tagged else [])


@cache
def _one_by_one(hinted: bool) -> tuple[CompiledStatement, CompiledStatement, CompiledStatement]:
    own = ("id", "message_id", "address", "tenant_id", "lane")
    values: tuple[tuple[Any, Sequence[str], Mapping[str, Any]], ...] = (
        (MESSAGES, (*SHARED, *DIFFERENT, "message_id"), {"status": literal(PENDING)}),
        (DELIVERIES, own, _new_delivery(hinted)),
        (TAGS, storing.TAG_COLUMNS, {}),
    )
    first, second, third = (
        CompiledStatement(insert(table).values({name: bindparam(name) for name in names} | dict(same)))
        for table, names, same in values
    )
    return first, second, third
