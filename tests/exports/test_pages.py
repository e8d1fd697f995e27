"""Exports read, write and forget a page at a time."""

import random
import tracemalloc
from functools import partial
from itertools import islice

from mailbbgun import schema
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import Database
from mailbbgun.events.reading import NO_FILTERS
from mailbbgun.exports import pages
from mailbbgun.exports.writing import CSV, NDJSON, lines
from mailbbgun.messages.repo import Wanted
from mailbbgun.statistics.table import cell
from tests.statistics.worlds import send


def test_the_memory_of_an_export_does_not_grow_with_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGE", 50)
    db = Database(f"sqlite:///{tmp_path}/mailbbgun.db")
    schema.upgrade(db)
    send(db, random.Random(1), 700)
    wanted = Wanted(tenant_id=DEFAULT_TENANT, limit=0, offset=0, after=None)
    exports = {
        "messages": lambda: lines(pages.messages(partial(db.read, DEFAULT_TENANT), wanted), CSV, pages.MESSAGE_COLUMNS),
        "events": lambda: lines(pages.events(db, DEFAULT_TENANT, NO_FILTERS), NDJSON, ()),
    }
    for name, export in exports.items():
        peaks, sizes = [], []
        for part in (3, 3, None):  # the first one fills caches
            made = export()
            tracemalloc.start()
            sizes.append(sum(len(one) for one in islice(made, part)))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert sizes[2] > 4 * sizes[1], name
        assert peaks[2] < 1.5 * peaks[1], name
    db.close()


def test_cells_are_text_that_no_spreadsheet_takes_for_a_formula():
    given = ["=1", "+1", "-1", "@x", "\t=1", " =1", "＝1", "a=1", -1, 2.5, True, None, ["a", "b"], {"a": "=1"}, ["=1"]]
    assert [cell(one) for one in given] == [
        *("'=1", "'+1", "'-1", "'@x", "'\t=1", "' =1", "'＝1", "a=1", "-1", "2.5", "true", "", "a, b", '{"a":"=1"}'),
        "'=1",
    ]
