"""Makes CSV of rows. No cell of it is a formula to a spreadsheet."""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

import orjson

from mailbbgun.statistics.figures import flat

#: Spreadsheets take a cell for a formula that begins with one of these, also in their wide forms.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def as_csv(answer: Mapping[str, Any]) -> bytes:
    """Return an answer of ``figures.answer`` as CSV: its groups, or its points if it has no groups."""
    rows = [flat(one) for one in (answer["points"] if answer["groups"] is None else answer["groups"])]
    columns = list(rows[0]) if rows else ["name"]
    return table([columns, *([row.get(name) for name in columns] for row in rows)])


def table(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows as CSV (RFC 4180) in UTF-8."""
    text = StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow([cell(value) for value in row])
    return text.getvalue().encode(errors="replace")


def cell(value: Any) -> str:
    """Return a value as a cell. A text that a spreadsheet would take for a formula gets a ' before it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list() if all(isinstance(one, str) for one in value):
            text = ", ".join(value)
        case list() | dict():
            text = orjson.dumps(value).decode()
        case _:
            text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
