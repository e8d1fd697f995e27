"""``GET /messages/{id}/events``: the timeline."""

from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate

from mailbbgun.core.caller import Scope
from mailbbgun.events.kinds import Kind
from mailbbgun.events.timeline import page as page_of_events
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.schemas import Page, Time
from mailbbgun.http.urls import next_page
from mailbbgun.services import Services

blueprint = Blueprint("events", __name__, description="What happened to a message.")


class Happening(Schema):
    """An event."""

    id = fields.UUID()
    at = Time()
    kind = fields.String(validate=validate.OneOf([kind.value for kind in Kind]))
    address = fields.String(
        allow_none=True, metadata={"description": "The recipient; null when it concerns the whole message."}
    )
    data = fields.Dict(
        metadata={"description": "What more is known: host, ip, code and reply of the other server, phase, claim…"}
    )


class Timeline(Schema):
    """A page of events, newest first."""

    events = fields.List(fields.Nested(Happening))
    count = fields.Integer()


@blueprint.route("/messages/<uuid:message_id>/events", tags=["messages"])
@blueprint.arguments(Page, location="query")
@blueprint.response(
    200,
    Timeline,
    headers={"Link": {"description": 'rel="next": the next page, if there is one.', "schema": {"type": "string"}}},
)
@blueprint.alt_response(404, description="No such message.")
@needs(Scope.READ, tests=True)
def timeline(page: dict[str, Any], message_id: UUID) -> Any:
    """Show what happened to a message, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        events, count, last = page_of_events(session, who.tenant_id, message_id, tests_only=who.tests_only, **page)
    return {"events": events, "count": count}, 200, next_page(last)
