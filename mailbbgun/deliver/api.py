"""``DELETE /messages/{id}`` cancels, ``POST /messages/{id}/retry`` tries again."""

from typing import Any
from uuid import UUID

from mailbbgun.base.caller import Scope
from mailbbgun.base.gate import caller, needs
from mailbbgun.base.web import Blueprint, Nothing, provided
from mailbbgun.deliver import intervene
from mailbbgun.messages.api import Details
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services

blueprint = Blueprint("deliveries", __name__, description="Stop a delivery, or try it again.")


@blueprint.route("/messages/<uuid:message_id>", methods=["DELETE"], tags=["messages"])
@blueprint.response(200, Details, description="What had not left is cancelled; the message as it is now.")
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(409, description="Everything has left, is leaving this moment, or has ended.")
@needs(Scope.WRITE, tests=True)
def cancel(message_id: UUID) -> Any:
    """Cancel what has not left yet"""
    who = caller()
    return intervene.cancel(provided(Services).db, who.tenant_id, message_id, tests_only=who.tests_only).message


@blueprint.route("/messages/<uuid:message_id>/retry", methods=["POST"], tags=["messages"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(200, Details, description="What had failed or was waiting is due now; the message as it is.")
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(409, description="Every delivery of it is being sent at this moment, is due already, or has ended as DELIVERED or CANCELLED.")
@needs(Scope.WRITE, tests=True)
def retry(_: dict[str, Any], message_id: UUID) -> Any:
    """Try again now

    Failed deliveries become due with a fresh schedule, those that wait for their next try on the schedule they are on.
    """
    who = caller()
    offer, db = provided(Publisher).offer, provided(Services).db
    return intervene.retry(db, offer, who.tenant_id, message_id, tests_only=who.tests_only).message
