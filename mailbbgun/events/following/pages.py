"""Pages of the log: newest first, or oldest first after a place."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.deadline import at_most
from mailbbgun.events.reading import (
    NO_FILTERS,
    START,
    EventFilters,
    LoggedEvent,
    Position,
    end,
    read,
    read_back,
    shown,
)

#: Words for places: before the first event, and after the last one.
FIRST, LAST = "start", "end"

#: Seconds that the database may take for one page: few of a long log may match.
PAGE_SECONDS = 10.0

_TOO_SLOW = "It takes the database longer than {:g} s to find these events; narrow the list by `since` and `until`."


class EventQuery(NamedTuple):
    """Which events of a tenant are asked for. Without ``after``: newest first, from ``before`` or the last one."""

    tenant_id: UUID
    limit: int
    tests_only: bool = False
    after: Position | None = None
    before: Position | None = None
    filters: EventFilters = NO_FILTERS


class EventPage(NamedTuple):
    """Events, and where the next page begins; None: there are no older ones."""

    events: list[LoggedEvent]
    next: Position | None

    def shown(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"events": [shown(one) for one in self.events], "next": None if self.next is None else str(self.next)}


def page(session: Session, asked: EventQuery, seconds: float = PAGE_SECONDS) -> EventPage:
    """Return the events that are asked for. Raises :class:`TookTooLong` if the database needs more than ``seconds``."""
    with at_most(session, seconds, _TOO_SLOW.format(seconds)):
        return _page(session, asked)


def _page(session: Session, asked: EventQuery) -> EventPage:
    how: dict[str, Any] = {"filters": asked.filters, "tests_only": asked.tests_only}
    if asked.after is None:
        events = read_back(session, asked.tenant_id, asked.before, asked.limit, **how)
        return EventPage(events, events[-1].position if len(events) == asked.limit else None)
    # The end is looked for first: all events up to it are then read or do not match.
    last = end(session, asked.tenant_id, tests_only=asked.tests_only)
    events = read(session, asked.tenant_id, asked.after, asked.limit, **how)
    if len(events) == asked.limit:
        return EventPage(events, events[-1].position)
    return EventPage(events, max(last, asked.after, *(one.position for one in events[-1:])))


def place_of(session: Session, tenant_id: UUID, name: str, text: str, *, tests_only: bool = False) -> Position:
    """Return the place that a client named: a position, ``start`` or ``end``. Raises :class:`InvalidInput`."""
    if text == FIRST:
        return START
    if text == LAST:
        return end(session, tenant_id, tests_only=tests_only)
    try:
        return Position.parse(text)
    except ValueError as error:
        why = f"Is no position in the log: give `position` of an event or `next` of an answer, {FIRST} or {LAST}."
        raise InvalidInput("Some fields are not valid.", fields={name: [why]}) from error


def asked_of(session: Session, tenant_id: UUID, query: Mapping[str, Any], *, tests_only: bool = False) -> EventQuery:
    """Return which events a query asks for (``schemas.LogQuery``), but for its cursor.

    Raises :class:`InvalidInput` for a wrong place.
    """
    places = {
        name: None if query[name] is None else place_of(session, tenant_id, name, query[name], tests_only=tests_only)
        for name in ("after", "before")
    }
    given = {name: query[name] for name in EventFilters._fields if query[name] is not None}
    if "recipient" in given:
        given["recipient"] = given["recipient"].strip().lower()
    return EventQuery(tenant_id, query["limit"], tests_only, filters=EventFilters(**given), **places)
