"""The HTTP routes of inbound routes, ``/inbound-routes``. They need the scope ``inbound``."""

from typing import Any, cast
from uuid import UUID

from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.domains.local import LocalDomains
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.inbound_routes import edit, repo, schemas
from mailbbgun.inbound_routes.recipients import InboundRecipients
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.services import Services

blueprint = Blueprint("inbound_routes", __name__, description="What is done with mail that comes to local domains.")

_NONE = "No such inbound route."


@blueprint.route("/inbound-routes", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.InboundRoutes, headers=NEXT_PAGE)
@needs(Scope.INBOUND)
def index(page: dict[str, Any]) -> Any:
    """List your inbound routes, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        rows, count, last = repo.page(session, tenant_id, **page)
    return {"inbound_routes": [edit.shown(row) for row in rows], "count": count}, 200, next_page(last)


@blueprint.route("/inbound-routes", methods=["POST"])
@blueprint.arguments(schemas.NewInboundRoute)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.InboundRouteWithSecret, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description="There are too many.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.INBOUND)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add an inbound route

    It is about mail that comes from now on. Its secret is in this answer and in no other, not even in that to the
    same request sent again with its Idempotency-Key.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    secret = secret_of(wanted["secret"])

    def add(identifier: UUID) -> dict[str, Any]:
        made = edit.create(session, services.vault, services.settings, tenant_id, identifier, wanted, secret)
        return cast(dict[str, Any], schemas.InboundRouteShape().dump(made))  # it is stored with the key

    with services.db.write(tenant_id) as session:
        claim = idempotency.claim_of(caller(), key["key"], {"inbound_route": wanted}) if key["key"] else None
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    if not replayed:
        answer = {**answer, "secret": secret}
    return created(answer, address_of("inbound_routes.show", route_id=answer["id"]), replayed)


@blueprint.route("/inbound-routes/<uuid:route_id>", methods=["GET"])
@blueprint.response(200, schemas.InboundRouteShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.INBOUND)
def show(route_id: UUID) -> Any:
    """Show an inbound route"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        return edit.shown(edit.found(session, tenant_id, route_id))


@blueprint.route("/inbound-routes/<uuid:route_id>", methods=["PATCH"])
@blueprint.arguments(schemas.InboundRouteChange)
@blueprint.response(200, schemas.InboundRouteShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.INBOUND)
def change(wanted: dict[str, Any], route_id: UUID) -> Any:
    """Change an inbound route

    Mail that waits to be posted is posted to the URL that the route has then.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.write(tenant_id) as session:
        return edit.change(session, services.vault, services.settings, tenant_id, route_id, wanted)


@blueprint.route("/inbound-routes/<uuid:route_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.INBOUND)
def remove(route_id: UUID) -> Any:
    """Delete an inbound route

    Mail that waits to be posted by it ends as ERROR.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        if not repo.remove(session, tenant_id, route_id):
            raise edit.missing()


@blueprint.route("/inbound-routes/test", methods=["POST"])
@blueprint.arguments(schemas.InboundTrial)
@blueprint.response(200, schemas.InboundVerdict)
@needs(Scope.INBOUND)
def try_out(wanted: dict[str, Any]) -> Any:
    """Say what would become of a mail

    Nothing is stored, and nothing is sent.
    """
    database = provided(Services).db
    return InboundRecipients(database, LocalDomains(database)).tried(caller().tenant_id, wanted)
