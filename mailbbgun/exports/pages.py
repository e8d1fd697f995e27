"""Reads all rows of a kind, a page at a time: each by a transaction and a range of an index of its own.

The HTTP API and the command line both use it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.database.db import Database
from mailbbgun.database.deadline import at_most
from mailbbgun.events import reading
from mailbbgun.events.reading import START, EventFilters
from mailbbgun.messages import find
from mailbbgun.messages.repo import Wanted
from mailbbgun.messages.schemas import Summary
from mailbbgun.statistics import figures
from mailbbgun.statistics.figures import COUNTS, PERCENTILES, FiguresQuery

#: Rows that are in memory at once.
PAGE = 1000

#: Seconds that the database may take for one page of events: few of a long log may match.
PAGE_SECONDS = 60.0

_TOO_SLOW = (
    f"It takes the database longer than {PAGE_SECONDS:g} s to find the next {PAGE} events; "
    "narrow the export by `from` and `to`."
)

Reading = Callable[[], AbstractContextManager[Session]]
Page = Sequence[Mapping[str, Any]]

MESSAGE_COLUMNS = (
    *("id", "created_at", "status", "reason", "from", "to", "subject", "tags", "priority", "test", "send_at"),
)
EVENT_COLUMNS = (
    *("id", "at", "kind", "final", "message_id", "delivery_id", "recipient", "from", "subject", "tags", "account"),
    *("test", "accepted_at", "message_id_header", "metadata", "data", "position"),
)
_FIGURES = (*COUNTS, "rates_delivered", "rates_failed", "rates_deferred")
_TIMES = tuple(f"time_to_deliver_{name}" for name in PERCENTILES)
STATISTICS_COLUMNS = ("at", *_FIGURES, *_TIMES)
GROUP_COLUMNS = ("at", "name", "rest", *_FIGURES, *_TIMES)
STATUS_COLUMNS = ("at", "name", "reason", "deliveries", "rate")


def messages(read: Reading, wanted: Wanted) -> Iterator[Page]:
    """Yield all messages that match, newest first. ``read`` opens a session for the tenant.

    Raises :class:`TookTooLong` if the database needs too long for one page.
    """
    summary, wanted = Summary(many=True), replace(wanted, limit=PAGE, offset=0)
    while True:
        with read() as session:
            found, last = find.next_ones(session, wanted)
        yield summary.dump(found)
        if last is None:
            return
        wanted = replace(wanted, after=last)


def events(database: Database, tenant_id: UUID, filters: EventFilters, *, tests_only: bool = False) -> Iterator[Page]:
    """Yield all events that match, oldest first, up to the one that was the last when the export began.

    Raises :class:`TookTooLong` if the database needs too long for one page.
    """
    with database.read(tenant_id) as session:  # the end of the log is the same for test keys
        end = reading.end(session, tenant_id)
    place = START
    while True:
        with database.read(tenant_id, tests_only=tests_only) as session, at_most(session, PAGE_SECONDS, _TOO_SLOW):
            found = reading.read(session, tenant_id, place, PAGE, filters=filters, tests_only=tests_only, until=end)
        yield [reading.shown(one) for one in found]
        if len(found) < PAGE:
            return
        place = found[-1].position


def columns_of(asked: FiguresQuery) -> Sequence[str]:
    """Return the columns of an export of statistics."""
    if asked.group_by == "status":
        return STATUS_COLUMNS
    return GROUP_COLUMNS if asked.group_by else STATISTICS_COLUMNS


def statistics(read: Reading, asked: FiguresQuery) -> Iterator[Page]:
    """Yield the figures of each interval and group, oldest first."""
    rows = figures.rows(read, asked)
    while page := [figures.flat(one) for one in islice(rows, PAGE)]:
        yield page
