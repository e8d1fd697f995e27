"""``GET /messages/{id}/events``: the timeline."""

from typing import Any
from uuid import UUID

from mailbbgun.core.caller import Scope
from mailbbgun.events.schemas import Timeline
from mailbbgun.events.timeline import page as page_of_events
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
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
