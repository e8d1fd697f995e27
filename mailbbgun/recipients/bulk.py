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
    CTE,
    JSON,
    Boolean,
    FromClause,
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
# As `database/sql.py` lets SQLite take them: JSON stays the text that it is.
_GIVEN_TO_SQLITE: Mapping[str, TypeEngine[Any]] = {
    **{name: String() if isinstance(kind, JSON) else kind for name, kind in _GIVEN.items()},
    "smtputf8": Integer(),
    "shown_id": String(),
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
    given = {name: shared.columns[name] for name in SHARED}
    given |= {"new_tags": rows([{"tag": tag} for tag in tags]), "due": shared.due, "lane": shared.lane}
    given |= {"after_id": f"@{shared.host}>", "given": rows(messages if dialect == "postgresql" else _plain(messages))}
    return [StatementStep(one, [given]) for one in _statements(dialect, shared.hinted, bool(tags))]


def _plain(messages: Sequence[Record]) -> list[Record]:
    """Return the records with ids as SQLite stores them, and with their texts for the Message-ID."""
    return [
        {**one, "id": one["id"].hex, "delivery_id": one["delivery_id"].hex, "shown_id": str(one["id"])}
        for one in messages
    ]


@cache
def _statements(dialect: str, hinted: bool, tagged: bool) -> list[CompiledStatement]:
    """Return the statements: one for PostgreSQL, one for each table for SQLite, where nothing is sent over a network.

    ``hinted``: with the mark that the hints are published.
    """
    if dialect != "postgresql":
        given = select(recordset(dialect, "given", _GIVEN_TO_SQLITE)).cte("given")
        return [CompiledStatement(one) for one in _inserted(dialect, given, hinted, tagged)]
    given = select(recordset(dialect, "given", _GIVEN)).cte("given").prefix_with("MATERIALIZED")
    stored, last, *tags = _inserted(dialect, given, hinted, tagged)
    return [CompiledStatement(last.add_cte(stored.cte("stored"), *(one.cte("tagged") for one in tags)))]


def _inserted(dialect: str, given: CTE, hinted: bool, tagged: bool) -> list[Insert]:
    """Return the insertions into messages, deliveries, and tags if there are any."""
    its = given.c
    shown_id = sql_cast(its.id, Text()) if dialect == "postgresql" else its.shown_id
    header = literal("<", Text()).concat(shown_id).concat(bindparam("after_id", type_=Text()))
    tenant = bindparam("tenant_id", type_=Uuid())
    message: dict[str, Any] = {name: bindparam(name, type_=MESSAGES.c[name].type) for name in SHARED}
    message |= {name: its[name] for name in DIFFERENT} | {"message_id": header, "status": literal(PENDING)}
    delivery: dict[str, Any] = {"id": its.delivery_id, "message_id": its.id, "address": its.address}
    delivery |= {"tenant_id": tenant, "lane": bindparam("lane", type_=Text()), **_new_delivery(hinted)}
    found = [_copied(MESSAGES, message, given), _copied(DELIVERIES, delivery, given)]
    if tagged:
        names = recordset(dialect, "new_tags", {"tag": String()})
        tag = {"tag": names.c.tag, "message_id": its.id, "tenant_id": tenant}
        found.append(_copied(TAGS, tag, given.join(names, true())))
    return found


def _copied(table: Any, values: Mapping[str, Any], source: FromClause) -> Insert:
    chosen = select(*values.values()).select_from(source)
    return insert(table).from_select(list(values), chosen, include_defaults=False)


def _new_delivery(hinted: bool) -> dict[str, Any]:
    """Return the columns with which each delivery begins."""
    due: Any = func.coalesce(bindparam("due", type_=UTCDateTime()), db_now())
    begins: dict[str, Any] = {"kind": literal("to"), "status": literal(PENDING), "next_attempt_at": due}
    begins["scheduled"] = bindparam("due", type_=UTCDateTime()).is_not(None)
    begins |= dict.fromkeys(storing.COUNTERS, literal(0))
    return begins | ({"published_at": db_now()} if hinted else {})
