"""``DELETE /messages/{id}`` cancels a message, ``PATCH`` changes it, ``POST /messages/{id}/retry`` tries it again."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import Forbidden
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.schemas import Nothing
from mailbbgun.messages import repo
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.schemas import Details
from mailbbgun.oversight import intervene
from mailbbgun.oversight.schemas import MessageChange, checked
from mailbbgun.services import Services

blueprint = Blueprint("deliveries", __name__, description="Stop a delivery, or try it again.")

_FORBIDDEN = f"The API key lacks the scope {Scope.WRITE}, or may not send to such a recipient, or from that address."


@blueprint.route("/messages/<uuid:message_id>", methods=["DELETE"], tags=["messages"])
@blueprint.response(200, Details, description="Deliveries that had not left are cancelled. The message as it is now.")
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(409, description="Every delivery of it has left, is being sent at this moment, or has ended.")
@needs(Scope.WRITE, tests=True)
def cancel(message_id: UUID) -> Any:
    """Cancel what has not left yet

    Nothing that is CANCELLED in the answer is ever sent. What a worker is sending is waited for, for
    two seconds; a delivery that is `in_hand` after that may still be sent.
    A key must be allowed to send what this cancels: a team key to its guests only, one with senders from these only.
    """
    who, db = caller(), provided(Services).db
    permit = partial(_check_may_send, who, message_id)
    return intervene.cancel(db, who.tenant_id, message_id, tests_only=who.tests_only, permit=permit).message


@blueprint.route("/messages/<uuid:message_id>/retry", methods=["POST"], tags=["messages"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(
    200, Details, description="Deliveries that had failed or waited are due now. The message as it is now."
)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(
    409,
    description="Every delivery of it is being sent at this moment, is due already, "
    "or has ended as DELIVERED or CANCELLED.",
)
@needs(Scope.WRITE, tests=True)
def retry(_: dict[str, Any], message_id: UUID) -> Any:
    """Try again now

    Failed deliveries become due and begin a fresh schedule. Those that wait for their next try
    become due and stay on their schedule. A key must be allowed to send what this sends: a team key
    sends to its guests only, a key with senders only from these.
    """
    who = caller()
    offer, db, permit = provided(Publisher).offer, provided(Services).db, partial(_check_may_send, who, message_id)
    return intervene.retry(db, offer, who.tenant_id, message_id, tests_only=who.tests_only, permit=permit).message


@blueprint.route("/messages/<uuid:message_id>", methods=["PATCH"], tags=["messages"])
@blueprint.arguments(MessageChange, example={"send_at": "2026-12-24T08:00:00+01:00"})
@blueprint.response(200, Details, description="The message as it is now.")
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(
    409, description="It has ended, or a worker is sending it at this moment, so its time cannot be moved."
)
@needs(Scope.WRITE, tests=True)
def change(wanted: Mapping[str, Any], message_id: UUID) -> Any:
    """Reschedule a pending message, or change its priority, tags or metadata

    Only what is given changes. `send_at: null` sends it now, `useful_until: null` lifts that limit.
    Deliveries that wait for a retry are moved as well. Those that a worker is sending are not.
    """
    who, services = caller(), provided(Services)
    values = checked(wanted, datetime.now(UTC), services.settings)
    permit = partial(_check_may_send, who, message_id)
    offer = provided(Publisher).offer
    return intervene.change(
        services.db, offer, who.tenant_id, message_id, values, tests_only=who.tests_only, permit=permit
    ).message


def _check_may_send(who: Caller, message_id: UUID, session: Session, recipients: Collection[str]) -> None:
    """Raise :class:`Forbidden` unless the caller could send the message to these recipients itself.

    A test message goes to the catcher, and so to nobody.
    """
    sent = repo.senders(session, who.tenant_id, message_id, tests_only=who.tests_only)
    if sent.test:
        return
    if strangers := [address for address in recipients if not who.may_send_to(address)]:
        raise Forbidden(f"This API key sends to its guests only, and {strangers[0]}, a recipient of this, is none.")
    for address in (sent.header, sent.envelope):
        if not who.may_send_as(address):
            raise Forbidden(f"This API key may not send as {address}, the sender of this.")
