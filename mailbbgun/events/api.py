"""``GET /events``, ``/cursors``, and ``GET /messages/{id}/events``: the log, its cursors, a message's timeline."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import OnlyTestData
from mailbbgun.events.following import cursor
from mailbbgun.events.following.pages import EventPage, EventQuery, asked_of
from mailbbgun.events.following.pages import page as page_of_log
from mailbbgun.events.following.watch import EventWatch
from mailbbgun.events.schemas import CursorPlace, Cursors, CursorShown, LogPage, LogQuery, Timeline
from mailbbgun.events.timeline import page as page_of_events
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import PendingResponse, ReadyResponse
from mailbbgun.http.schemas import Page
from mailbbgun.http.urls import NEXT_PAGE, next_page
from mailbbgun.services import Services

blueprint = Blueprint("events", __name__, description="What happened to a message.")


@blueprint.route("/messages/<uuid:message_id>/events", tags=["messages"])
@blueprint.arguments(Page, location="query")
@blueprint.response(
    200,
    Timeline,
    headers=NEXT_PAGE,
)
@blueprint.alt_response(404, description="No such message.")
@needs(Scope.READ, tests=True)
def timeline(page: dict[str, Any], message_id: UUID) -> Any:
    """Show what happened to a message, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        events, count, last = page_of_events(session, who.tenant_id, message_id, tests_only=who.tests_only, **page)
    return {"events": events, "count": count}, 200, next_page(last)


@blueprint.route("/events", tags=["events"])
@blueprint.arguments(LogQuery, location="query")
@blueprint.alt_response(404, description="No such cursor.")
@blueprint.alt_response(503, description="It takes the database too long to find such events.")
@blueprint.response(200, LogPage)
@needs(Scope.READ, tests=True)
def log(query: dict[str, Any]) -> Any:
    """List what happened, newest first; with `after` or `cursor` oldest first, and waiting for more"""
    who, services = caller(), provided(Services)
    with reading(services.db) as session:
        asked = _asked(session, query)
        found = page_of_log(session, asked)
    if found.events or not query["wait"]:
        return _answer(found)
    waits = provided(EventWatch).wait_for(who.key_id or who.tenant_id, asked._replace(after=found.next), query["wait"])
    return PendingResponse(waits, lambda: _answer(waits.result()), who=who)


def _answer(found: EventPage) -> ReadyResponse:
    return ReadyResponse.of(200, found.shown(), {})


def _asked(session: Session, query: dict[str, Any]) -> EventQuery:
    """Return which events a query asks for. Raises :class:`InvalidInput`, :class:`NotFound`."""
    who = caller()
    asked = asked_of(session, who.tenant_id, query, tests_only=who.tests_only)
    if (name := query["cursor"]) is None:
        return asked
    if who.tests_only:
        raise OnlyTestData("A test key has no cursors: give after, with the next of the answer before.")
    return asked._replace(after=cursor.place(session, who.tenant_id, name))


@blueprint.route("/cursors", tags=["events"])
@blueprint.response(200, Cursors)
@needs(Scope.READ)
def list_cursors() -> Any:
    """List the cursors"""
    with reading(provided(Services).db) as session:
        found = cursor.every(session, caller().tenant_id)
    return {"cursors": found, "count": len(found)}


@blueprint.route("/cursors/<string:name>", tags=["events"])
@blueprint.response(200, CursorShown)
@blueprint.alt_response(404, description="No such cursor.")
@needs(Scope.READ)
def show_cursor(name: str) -> Any:
    """Show a cursor"""
    with reading(provided(Services).db) as session:
        return cursor.one(session, caller().tenant_id, name)


@blueprint.route("/cursors/<string:name>", methods=["PUT"], tags=["events"])
@blueprint.arguments(CursorPlace)
@blueprint.response(200, CursorShown)
@blueprint.alt_response(409, description="There are too many cursors.")
@needs(Scope.READ)
def put_cursor(given: dict[str, str | None], name: str) -> Any:
    """Make a cursor, or move it to any place"""
    with provided(Services).db.write(caller().tenant_id) as session:
        return cursor.put(session, caller().tenant_id, name, given["position"])


@blueprint.route("/cursors/<string:name>", methods=["DELETE"], tags=["events"])
@blueprint.response(204)
@blueprint.alt_response(404, description="No such cursor.")
@needs(Scope.READ)
def delete_cursor(name: str) -> None:
    """Delete a cursor"""
    with provided(Services).db.write(caller().tenant_id) as session:
        cursor.delete(session, caller().tenant_id, name)


@blueprint.route("/cursors/<string:name>/ack", methods=["POST"], tags=["events"])
@blueprint.arguments(CursorPlace)
@blueprint.response(200, CursorShown)
@blueprint.alt_response(404, description="No such cursor.")
@needs(Scope.READ)
def acknowledge(given: dict[str, str | None], name: str) -> Any:
    """Acknowledge all events up to a position"""
    with provided(Services).db.write(caller().tenant_id) as session:
        return cursor.acknowledge(session, caller().tenant_id, name, given["position"])
