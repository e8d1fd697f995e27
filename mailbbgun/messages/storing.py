"""Storing accepted messages: the statements that insert their rows, deliveries and tags.

Each row begins as ``PENDING``, or as ``ERROR`` if its recipient is suppressed; from then on only
``events/changes/record.py`` and ``events/changes/stopping.py`` change a status.
``accept/store.py`` executes the statements, with the first events in the same transaction.
"""

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Insert,
    Integer,
    Table,
    Text,
    bindparam,
    case,
    false,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from mailbbgun.composing.contents import StoredContent
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import db_now
from mailbbgun.database.sql import recordset, rows
from mailbbgun.messages.models import CONTENT_FILES, CONTENTS, DELIVERIES, MESSAGES, TAGS
from mailbbgun.messages.status import PENDING

#: Columns whose values accept gives. Of messages these are all, so that a new column of ``messages`` needs no
#: line here. A status that is not given is ``PENDING``.
MESSAGE_COLUMNS = tuple(column.name for column in MESSAGES.columns)
DELIVERY_COLUMNS = ("id", "tenant_id", "message_id", "address", "kind", "lane", "next_attempt_at", "status", "reason")
TAG_COLUMNS = ("tag", "message_id", "tenant_id")

#: Columns of deliveries that begin at zero.
COUNTERS = ("attempt", "tries", "crashes", "unknowns")

CONTENT_COLUMNS = ("id", "tenant_id", "created_at", "made_of")
FILE_COLUMNS = ("content_id", "place", "tenant_id", "sha256")

New = Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
"""Messages as they are stored, each with its deliveries. Keys are names of columns."""


def steps(dialect: str, new: New, contents: Sequence[StoredContent], events: StatementStep) -> list[StatementStep]:
    """Return the statements that store messages, their deliveries, their tags, and ``events``.

    A delivery without ``next_attempt_at`` is due now. One with a ``status`` has ended.

    ``contents`` are those of composed messages, each once; those that are stored already stay as they
    are. ``events`` is the insertion of the first events, whose table refers to messages. On PostgreSQL all
    are one statement: the server may be elsewhere, and a round trip costs more than the work.
    """
    messages = [message for message, _ in new]
    deliveries = [one for _, its in new for one in its]
    tags = [
        {"tag": tag, "message_id": message["id"], "tenant_id": message["tenant_id"]}
        for message in messages
        for tag in message["tags"]
    ]
    if dialect == "postgresql":
        given = {"messages": rows(_placed(messages)), "deliveries": rows(deliveries), "tags": rows(tags)}
        given |= _encoded(b"".join(message["raw"] or b"" for message in messages))
        if contents:
            made_of = [{**row, "made_of": b2a_base64(row["made_of"]).decode()} for row in _content_rows(contents)]
            given |= {"contents": rows(made_of), "files": rows(_file_rows(contents))}
        statement = _all_at_once(events.statement, with_contents=bool(contents))
        return [StatementStep(statement, [{**events.given[0], **given}])]
    rows_of_tables: tuple[Sequence[Mapping[str, Any]], ...] = (messages, deliveries, tags)
    tables = zip(_table_by_table(), rows_of_tables, strict=True)
    before = zip(_of_contents(), (_content_rows(contents), _file_rows(contents)), strict=True) if contents else ()
    return [*(StatementStep(compiled, given) for compiled, given in (*before, *tables) if given), events]


def content_steps(dialect: str, contents: Sequence[StoredContent]) -> list[StatementStep]:
    """Return the statements that store contents, for messages that are stored by other statements."""
    if dialect == "postgresql":
        made_of = [{**row, "made_of": b2a_base64(row["made_of"]).decode()} for row in _content_rows(contents)]
        return [StatementStep(_contents_alone(), [{"contents": rows(made_of), "files": rows(_file_rows(contents))}])]
    given = zip(_of_contents(), (_content_rows(contents), _file_rows(contents)), strict=True)
    return [StatementStep(compiled, rows_of) for compiled, rows_of in given if rows_of]


@cache
def _contents_alone() -> CompiledStatement:
    first, second = _contents_inserted()
    return CompiledStatement(second.add_cte(first.cte("c")))


def copied(table: Table, values: Mapping[str, Any]) -> Insert:
    """Return a statement that inserts the rows of a recordset (``database/sql.py``) into a table.

    ``values``: the recordset's columns, by the table's.
    """
    return insert(table).from_select(list(values), select(*values.values()), include_defaults=False)


def given_rows(name: str, table: Table, columns: Sequence[str], **others: TypeEngine[Any]) -> dict[str, Any]:
    """Return the columns, by name, of a recordset with these columns of a table.

    ``others``: types of further columns, or types in place of the table's.
    """
    types = {column: table.c[column].type for column in columns}
    return dict(recordset("postgresql", name, types | others).c)


@cache
def _all_at_once(events: CompiledStatement, *, with_contents: bool) -> CompiledStatement:
    """Return the statement that inserts the events, with those of the tables before it as CTEs."""
    assert isinstance(events.statement, Insert)  # by the contract of ``steps``
    return CompiledStatement(events.statement.add_cte(*(_contents_before() if with_contents else ()), *_before()))


def _contents_before() -> tuple[CTE, ...]:
    first, second = _contents_inserted()
    return first.cte("c"), second.cte("f")


def _contents_inserted() -> tuple[Insert, Insert]:
    content = given_rows("contents", CONTENTS, CONTENT_COLUMNS, made_of=Text())
    made_of = func.decode(content["made_of"], "base64")
    file = given_rows("files", CONTENT_FILES, FILE_COLUMNS)
    return (
        _copied_unless_there(CONTENTS, content | {"made_of": made_of}),
        _copied_unless_there(CONTENT_FILES, file),
    )


def _copied_unless_there(table: Table, values: Mapping[str, Any]) -> Insert:
    """Return the statement of :func:`copied` that leaves out rows whose keys exist already."""
    chosen = select(*values.values())
    inserting = postgresql.insert(table).from_select(list(values), chosen, include_defaults=False)
    return inserting.on_conflict_do_nothing()


@cache
def _of_contents() -> Sequence[CompiledStatement]:
    return [
        CompiledStatement(
            sqlite.insert(table).values({column: bindparam(column) for column in columns}).on_conflict_do_nothing()
        )
        for table, columns in ((CONTENTS, CONTENT_COLUMNS), (CONTENT_FILES, FILE_COLUMNS))
    ]


def _content_rows(contents: Sequence[StoredContent]) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [{"id": one.id, "tenant_id": one.tenant_id, "created_at": now, "made_of": one.made_of} for one in contents]


def _file_rows(contents: Sequence[StoredContent]) -> list[dict[str, Any]]:
    return [
        {"content_id": one.id, "place": place, "tenant_id": one.tenant_id, "sha256": file.sha256}
        for one in contents
        for place, file in enumerate(one.content.files)
    ]


def _before() -> tuple[CTE, ...]:
    message = given_rows("messages", MESSAGES, MESSAGE_COLUMNS, raw=Integer(), length=Integer())
    raw = func.substr(
        func.decode(bindparam("raw", type_=Text), bindparam("encoding", type_=Text)),
        message["raw"],
        message.pop("length"),
    )
    delivery = given_rows("deliveries", DELIVERIES, DELIVERY_COLUMNS)
    return (
        copied(MESSAGES, message | {"raw": raw} | _new_message(message)).cte("m"),
        copied(DELIVERIES, delivery | _new_delivery(delivery)).cte("d"),
        copied(TAGS, given_rows("tags", TAGS, TAG_COLUMNS)).cte("t"),
    )


@cache
def _table_by_table() -> Sequence[CompiledStatement]:
    """Return one statement for each table. SQLite runs in this process, so there are no round trips."""
    return [
        CompiledStatement(insert(table).values(given | same(given)))
        for table, given, same in (
            (MESSAGES, _bound(MESSAGES, MESSAGE_COLUMNS), _new_message),
            (DELIVERIES, _bound(DELIVERIES, DELIVERY_COLUMNS), _new_delivery),
            (TAGS, _bound(TAGS, TAG_COLUMNS), lambda _: {}),
        )
    ]


def _new_message(given: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
    return {"status": func.coalesce(given["status"], PENDING), "received": func.coalesce(given["received"], false())}


def _new_delivery(given: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
    due, ended = given["next_attempt_at"], given["status"].is_not(None)
    return {
        "status": func.coalesce(given["status"], PENDING),
        "next_attempt_at": case((~ended, func.coalesce(due, db_now()))),
        "finished_at": case((ended, db_now())),
        "scheduled": due.is_not(None),
        **dict.fromkeys(COUNTERS, literal(0)),
    }


def _bound(table: Table, columns: Sequence[str]) -> dict[str, ColumnElement[Any]]:
    return {column: bindparam(column, None, type_=table.c[column].type) for column in columns}


def _placed(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give each message the position and length of its MIME within the joined MIME of all.

    As part of the JSON the MIME would be too slow.
    """
    # The length of a message that is to be composed is null, and so becomes its MIME.
    lengths = [None if message["raw"] is None else len(message["raw"]) for message in messages]
    sums = accumulate((length or 0 for length in lengths), initial=1)
    places = zip(messages, sums, lengths, strict=False)  # the last of the sums is the end
    return [{**message, "raw": first, "length": length} for message, first, length in places]


def _encoded(raw: bytes) -> dict[str, str]:
    """Return bytes as a text, and its encoding for PostgreSQL's ``decode``, which makes bytes of it again.

    Nearly all mail is ASCII, which stays as it is but for backslashes. Base64 of 13 KB of HTML would
    cost this process a third more CPU, and PostgreSQL a fifth.
    """
    if raw.isascii() and b"\0" not in raw:
        return {"raw": raw.replace(b"\\", b"\\\\").decode("ascii"), "encoding": "escape"}
    return {"raw": b2a_base64(raw, newline=False).decode("ascii"), "encoding": "base64"}
