"""``POST /messages/batch``, ``GET /batches``, ``/batches/{id}``, ``POST /batches/{id}/cancel``."""

from typing import Any
from uuid import UUID

from flask import Response, g

from mailbbgun.batches import cancel as cancelling
from mailbbgun.batches import repo
from mailbbgun.batches.batching import Batcher, StoredBatch
from mailbbgun.batches.given import given_batch
from mailbbgun.batches.schemas import AcceptedBatch, BatchPage, BatchShape, CancelledBatch, NewBatch
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import ReadyResponse
from mailbbgun.http.schemas import REPLAYED, Nothing, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, next_page, own_base
from mailbbgun.services import Services

blueprint = Blueprint("batches", __name__, description="Many personal messages at once, and what became of them.")

#: The example of the documentation.
_EXAMPLE = {
    "subject": "Order {{ order }}",
    "text": "Dear {{ name }}, it has left.",
    "recipients": [
        {"to": "Ann Lee <ann@example.com>", "variables": {"name": "Ann", "order": 1234}},
        {"to": "bob@example.com", "variables": {"name": "Bob", "order": 1235}},
    ],
}
# The limits of the body: a thousand recipients have many more values than one message.
NewBatch.most_structure = 1_000_000
NewBatch.limit = staticmethod(lambda: BodyLimit(provided(Services).settings.MAX_BATCH_SIZE, "MAX_BATCH_SIZE"))

_HEADERS = {
    "Location": {"description": "The batch's address.", "schema": {"type": "string", "format": "uri-reference"}},
    **REPLAYED,
}


@blueprint.route("/messages/batch", methods=["POST"], tags=["messages"])
@blueprint.arguments(NewBatch, example=_EXAMPLE)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(202, AcceptedBatch, description="Stored durably; each message will be delivered.", headers=_HEADERS)
@blueprint.alt_response(413, description="Larger than MAX_BATCH_SIZE.")
@blueprint.alt_response(415, description="Not declared as JSON.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(503, description="The database does not answer. Repeat the request with the same key.")
@needs(Scope.WRITE, tests=True)
def send(parts: dict[str, Any], headers: dict[str, str | None]) -> Any:
    """Send many personal messages

    Each recipient gets a mail of its own, which shows no other recipient. The texts are templates, into
    which each mail puts its own variables. One commit stores all.
    """
    given = given_batch(parts, g.body, headers["key"], provided(Services).settings)
    return answer(provided(Batcher).accept(given, caller()))


def answer(stored: StoredBatch) -> Response:
    """Answer that a batch is accepted."""
    more = {"Location": f"{own_base()}/batches/{stored.answer['batch_id']}"}
    if stored.replayed:
        more["Idempotent-Replayed"] = "true"
    return ReadyResponse.of(202, stored.answer, more)


@blueprint.route("/batches")
@blueprint.arguments(Page, location="query")
@blueprint.response(
    200,
    BatchPage,
    headers=NEXT_PAGE,
)
@needs(Scope.READ, tests=True)
def index(page: dict[str, Any]) -> Any:
    """List batches, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        batches, count, last = repo.page(session, who.tenant_id, tests_only=who.tests_only, **page)
    return {"batches": batches, "count": count}, 200, next_page(last)


@blueprint.route("/batches/<uuid:batch_id>")
@blueprint.response(200, BatchShape)
@blueprint.alt_response(404, description="No such batch.")
@needs(Scope.READ, tests=True)
def show(batch_id: UUID) -> Any:
    """Show a batch and how far it is"""
    who = caller()
    with reading(provided(Services).db) as session:
        found = repo.details(session, who.tenant_id, batch_id, tests_only=who.tests_only)
    if found is None:
        raise NotFound("There is no such batch.")
    return found


@blueprint.route("/batches/<uuid:batch_id>/cancel", methods=["POST"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(
    200, CancelledBatch, description="Messages that had not left are cancelled. The batch as it is now."
)
@blueprint.alt_response(403, description=f"The API key lacks the scope {Scope.WRITE}, or may not send such messages.")
@blueprint.alt_response(404, description="No such batch.")
@needs(Scope.WRITE, tests=True)
def cancel(_: dict[str, Any], batch_id: UUID) -> Any:
    """Cancel what has not left yet

    It may be repeated: a message that is being sent at this moment is cancelled by a later request if its
    attempt fails.
    """
    return cancelling.cancel(provided(Services).db, caller(), batch_id)
