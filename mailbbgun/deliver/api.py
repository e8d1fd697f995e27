"""``DELETE /messages/{id}`` cancels, ``POST /messages/{id}/retry`` tries again."""

from typing import Any
from uuid import UUID

from mailbbgun.base.errors import Conflict
from mailbbgun.base.web import Blueprint, Nothing, provided
from mailbbgun.events import record
from mailbbgun.messages import repo
from mailbbgun.messages.api import Details, shown
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services

blueprint = Blueprint("deliveries", __name__, description="Stop a delivery, or try it again.")


@blueprint.route("/messages/<uuid:message_id>", methods=["DELETE"], tags=["messages"])
@blueprint.response(200, Details, description="What had not left is cancelled; the message as it is now.")
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(409, description="Everything has left, is leaving this moment, or has ended.")
def cancel(message_id: UUID) -> Any:
    """Cancel what has not left yet"""
    with provided(Services).db.write() as session:
        cancelled = record.cancelled(session, message_id)
    message = shown(message_id)
    if not cancelled:
        raise Conflict(f"Nothing left to cancel: the message is {message['status']}.")
    return message


@blueprint.route("/messages/<uuid:message_id>/retry", methods=["POST"], tags=["messages"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(200, Details, description="What had failed is due again; the message as it is now.")
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(409, description="No delivery of it has failed.")
def retry(_: dict[str, Any], message_id: UUID) -> Any:
    """Make failed deliveries due again, with a fresh schedule"""
    with provided(Services).db.write() as session:
        retried = record.retried(session, message_id)
        lane = repo.lane(session, message_id) if retried else ""
    message = shown(message_id)
    if not retried:
        raise Conflict(f"Nothing to try again: the message is {message['status']}.")
    provided(Publisher).offer(lane, message_id)
    return message
