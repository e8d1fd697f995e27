"""The statements that store accepted messages, deliveries, tags and first events. ``record.py`` executes them."""

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, cast

from sqlalchemy import Insert, Integer, Table, Text, bindparam, func, insert, literal, select
from sqlalchemy.types import TypeEngine

from mailbbgun.database.db import db_now
from mailbbgun.database.ready import ReadyStatement, StatementStep
from mailbbgun.database.sql import recordset, rows
from mailbbgun.events.models import Event
from mailbbgun.messages.models import DELIVERIES, MESSAGES, TAGS
from mailbbgun.messages.status import PENDING

EVENTS = cast(Table, Event.__table__)

# The columns that are written with values of each row, on both databases. A new column is a name here and a key in
# ``accept/accept.py``.
MESSAGE_COLUMNS = (
    "id tenant_id key_id test created_at subject sender mail_from message_id priority smtputf8 size tags metadata raw"
)
DELIVERY_COLUMNS = "id tenant_id message_id address kind lane"
TAG_COLUMNS = "tag message_id tenant_id"
EVENT_COLUMNS = "id tenant_id message_id delivery_id at kind data"

# Columns that begin at zero.
COUNTERS = ("attempt", "tries", "crashes", "unknowns")

New = Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
"""Messages as they are stored, each with its deliveries. Keys are names of columns."""


def steps(dialect: str, new: New, events: Sequence[Mapping[str, Any]]) -> list[StatementStep]:
    """Return what to execute to store messages, their deliveries, due now, their tags, and these events."""
    messages = [message for message, _ in new]
    deliveries = [one for _, its in new for one in its]
    tags = [
        {"tag": tag, "message_id": message["id"], "tenant_id": message["tenant_id"]}
        for message in messages
        for tag in message["tags"]
    ]
    if dialect == "postgresql":
        given = {
            "messages": rows(_placed(messages)),
            "deliveries": rows(deliveries),
            "tags": rows(tags),
            "events": rows(events),
        }
        return [StatementStep(_all_at_once(), [given | _encoded(b"".join(message["raw"] for message in messages))])]
    rows_of_tables: tuple[Sequence[Mapping[str, Any]], ...] = (messages, deliveries, tags, events)
    return [
        StatementStep(ready, given) for ready, given in zip(_table_by_table(), rows_of_tables, strict=True) if given
    ]


@cache
def appended() -> ReadyStatement:
    """Return the statement that inserts events into PostgreSQL from one parameter, ``events``."""
    return ReadyStatement(_events())


@cache
def _all_at_once() -> ReadyStatement:
    """One statement for four tables: PostgreSQL may be a network away, and a round trip costs more than the work."""
    message = _given("messages", MESSAGES, MESSAGE_COLUMNS, raw=Integer(), length=Integer())
    raw = func.substr(
        func.decode(bindparam("raw", type_=Text), bindparam("encoding", type_=Text)),
        message["raw"],
        message.pop("length"),
    )
    delivery = _given("deliveries", DELIVERIES, DELIVERY_COLUMNS)
    before = (
        _copied(MESSAGES, message | {"raw": raw} | _new_message()).cte("m"),
        _copied(DELIVERIES, delivery | _new_delivery()).cte("d"),
        _copied(TAGS, _given("tags", TAGS, TAG_COLUMNS)).cte("t"),
    )
    return ReadyStatement(_events().add_cte(*before))


@cache
def _table_by_table() -> Sequence[ReadyStatement]:
    """A statement for each table: SQLite is in this process, and takes values as they are."""
    return [
        ReadyStatement(insert(table).values({column: bindparam(column) for column in columns.split()} | same))
        for table, columns, same in (
            (MESSAGES, MESSAGE_COLUMNS, _new_message()),
            (DELIVERIES, DELIVERY_COLUMNS, _new_delivery()),
            (TAGS, TAG_COLUMNS, {}),
            (EVENTS, EVENT_COLUMNS, {}),
        )
    ]


def _new_message() -> dict[str, Any]:
    return {"status": literal(PENDING)}


def _new_delivery() -> dict[str, Any]:
    return {"status": literal(PENDING), "next_attempt_at": db_now()} | dict.fromkeys(COUNTERS, literal(0))


def _events() -> Insert:
    return _copied(EVENTS, _given("events", EVENTS, EVENT_COLUMNS))


def _placed(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give each message the position and length of its bytes among all bytes, which JSON would be too slow for."""
    lengths = [len(message["raw"]) for message in messages]
    places = zip(messages, accumulate(lengths, initial=1), lengths, strict=False)  # the last of the sums is the end
    return [{**message, "raw": first, "length": length} for message, first, length in places]


def _encoded(raw: bytes) -> dict[str, str]:
    """Return bytes as a text, and the name of the encoding by which PostgreSQL's ``decode`` makes bytes of it again.

    Nearly all mail is ASCII, which stays as it is but for backslashes. For 13 KB of HTML base64 costs this process a
    third more CPU, and PostgreSQL a fifth.
    """
    if raw.isascii() and b"\0" not in raw:
        return {"raw": raw.replace(b"\\", b"\\\\").decode("ascii"), "encoding": "escape"}
    return {"raw": b2a_base64(raw, newline=False).decode("ascii"), "encoding": "base64"}


def _given(name: str, table: Table, columns: str, **others: TypeEngine[Any]) -> dict[str, Any]:
    types = {column: table.c[column].type for column in columns.split()}
    return dict(recordset("postgresql", name, types | others).c)


def _copied(table: Table, values: Mapping[str, Any]) -> Insert:
    return insert(table).from_select(list(values), select(*values.values()), include_defaults=False)
