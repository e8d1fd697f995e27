"""Makes CSV and NDJSON of rows, a page at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from mailbbgun.statistics.table import table

Row = Mapping[str, Any]

CSV, NDJSON = "csv", "ndjson"
MIMETYPES = {CSV: "text/csv", NDJSON: "application/x-ndjson"}


def lines(pages: Iterable[Sequence[Row]], form: str, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield the file in pieces: one for each page. ``columns`` are those of CSV, in their order.

    The line with their names comes with the first page, so that no answer begins before that was read.
    """
    if form == NDJSON:
        for page in pages:
            yield b"".join(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE) for row in page)
        return
    head = table([columns])
    for page in pages:
        yield head + table([row.get(name) for name in columns] for row in page)
        head = b""
    if head:
        yield head
