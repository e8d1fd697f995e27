"""``GET /messages``, ``/messages/{id}`` and ``/messages/{id}/raw``."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any
from uuid import UUID

from flask import Response

from mailbbgun.composing.streaming import after, octets
from mailbbgun.core.caller import Scope
from mailbbgun.domains.signing import DomainKeys
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.urls import NEXT_PAGE, next_page
from mailbbgun.messages import find, repo
from mailbbgun.messages.schemas import Details, Filters, Messages
from mailbbgun.relays.slack.medium import SLACK, medium_of
from mailbbgun.services import Services

blueprint = Blueprint("messages", __name__, description="Messages, and what became of them.")


@dataclass(frozen=True, slots=True)
class DetailsDoor:
    """Returns a message with the causes of its failures. The room of events, which is above this one, gives it.

    It is asked with the tenant's id, the message's, and whether only test messages may be seen.
    """

    details: Callable[[UUID, UUID, bool], dict[str, Any]]


@blueprint.route("/messages", tags=["messages"])
@blueprint.arguments(Filters, location="query")
@blueprint.alt_response(503, description="It takes the database too long, or it does not answer.")
@blueprint.response(
    200,
    Messages,
    headers=NEXT_PAGE,
)
@needs(Scope.READ, tests=True)
def index(filters: dict[str, Any]) -> Any:
    """List messages, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        messages, count, last = find.page(
            session, repo.Wanted(tenant_id=who.tenant_id, tests_only=who.tests_only, **filters)
        )
    return {"messages": messages, "count": count}, 200, next_page(last)


@blueprint.route("/messages/<uuid:message_id>", tags=["messages"])
@blueprint.response(200, Details)
@blueprint.alt_response(404, description="No such message.")
@needs(Scope.READ, tests=True)
def show(message_id: UUID) -> Any:
    """Show a message and what became of each delivery"""
    who = caller()
    return provided(DetailsDoor).details(who.tenant_id, message_id, who.tests_only)


@blueprint.route("/messages/<uuid:message_id>/raw", tags=["messages"])
@blueprint.response(
    200,
    {"type": "string", "format": "binary"},
    content_type="message/rfc822",
    description="The MIME, byte for byte as sent, with its DKIM signatures. Of a message to Slack: its JSON.",
)
@blueprint.alt_response(404, description="No such message.")
@blueprint.alt_response(503, description="The DKIM key that signs the message cannot be decrypted.")
@needs(Scope.READ, tests=True)
def raw(message_id: UUID) -> Response:
    """Download the MIME as sent"""
    who = caller()
    services = provided(Services)
    composed = find.mime(services.db, who.tenant_id, message_id, tests_only=who.tests_only)
    author = find.author(services.db, who.tenant_id, message_id)
    if medium_of(author) == SLACK:
        return Response(composed.whole, mimetype="application/json")
    header = composed.header
    signature = provided(DomainKeys).signature(
        services.db,
        who.tenant_id,
        author,
        message_id,
        header,
        lambda: after(len(header), octets(services.db, services.blobs, who.tenant_id, composed)),
    )
    headers = {
        "Content-Disposition": f'attachment; filename="{message_id}.eml"',
        "Content-Length": str(len(signature) + composed.size),
    }
    if not composed.has_files:
        return Response(signature + composed.whole, mimetype="message/rfc822", headers=headers)
    blocks = octets(services.db, services.blobs, who.tenant_id, composed)
    # The header, and the beginning of the first file: before the answer begins, so that an error has its own.
    begun = [*islice(blocks, 2)]
    return Response(chain([signature], begun, blocks), mimetype="message/rfc822", headers=headers)
