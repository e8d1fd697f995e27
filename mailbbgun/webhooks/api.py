"""The HTTP routes of webhooks, ``/webhooks``. They need the scope ``webhooks``."""

from typing import Any, cast
from uuid import UUID

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database import idempotency
from mailbbgun.events.reading import Position
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.services import Services
from mailbbgun.webhooks import edit, repo, schemas
from mailbbgun.webhooks.by_hand import ByHand

blueprint = Blueprint("webhooks", __name__, description="URLs of yours that events are sent to.")

_NONE = "No such webhook."
_POSITION = "give the position of an event (GET /events) or of an attempt (GET /webhooks/{id}/attempts)."
_BUSY = "Too many webhooks are being tried."


@blueprint.route("/webhooks", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Webhooks, headers=NEXT_PAGE)
@needs(Scope.WEBHOOKS)
def index(page: dict[str, Any]) -> Any:
    """List your webhooks, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        rows, count, last = repo.page(session, tenant_id, **page)
        waiting = repo.retries(session, tenant_id, [row.id for row in rows])
        shown = [edit.shown(session, row, waiting.get(row.id, 0)) for row in rows]
    return {"webhooks": shown, "count": count}, 200, next_page(last)


@blueprint.route("/webhooks", methods=["POST"])
@blueprint.arguments(schemas.NewWebhook)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.WebhookWithSecret, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description="There are too many.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.WEBHOOKS)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a webhook

    It gets what happens from now on. Its secret is in this answer and in no other, not even in that to the same
    request sent again with its Idempotency-Key.
    """
    services, tenant_id = provided(Services), caller().tenant_id

    secret = secret_of(wanted["secret"])

    def add(identifier: UUID) -> dict[str, Any]:
        made = edit.create(session, services.vault, services.settings, tenant_id, identifier, wanted, secret)
        return cast(dict[str, Any], schemas.WebhookShape().dump(made))  # it is stored with the key

    with services.db.write(tenant_id) as session:
        claim = idempotency.claim_of(caller(), key["key"], {"webhook": wanted}) if key["key"] else None
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    if not replayed:
        answer = {**answer, "secret": secret}
    return created(answer, address_of("webhooks.show", webhook_id=answer["id"]), replayed)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["GET"])
@blueprint.response(200, schemas.WebhookShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def show(webhook_id: UUID) -> Any:
    """Show a webhook, and whether it works"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        return edit.shown(session, edit.found(session, tenant_id, webhook_id))


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["PATCH"])
@blueprint.arguments(schemas.WebhookChange)
@blueprint.response(200, schemas.WebhookShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def change(wanted: dict[str, Any], webhook_id: UUID) -> Any:
    """Change a webhook

    One that was disabled or paused is tried at once, and goes on where it was.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.write(tenant_id) as session:
        return edit.change(session, services.settings, tenant_id, webhook_id, wanted)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def remove(webhook_id: UUID) -> Any:
    """Delete a webhook and its log"""
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        edit.found(session, tenant_id, webhook_id)
        repo.remove(session, tenant_id, webhook_id)


@blueprint.route("/webhooks/<uuid:webhook_id>/rotate", methods=["POST"])
@blueprint.arguments(schemas.SecretRotation)
@blueprint.response(200, schemas.WebhookWithSecret)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def rotate(wanted: dict[str, Any], webhook_id: UUID) -> Any:
    """Give a webhook another secret

    Requests are signed by both for a while. The new secret is in this answer and in no other.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.write(tenant_id) as session:
        return edit.rotate(session, services.vault, tenant_id, webhook_id, wanted["secret"], wanted["keep_hours"])


@blueprint.route("/webhooks/<uuid:webhook_id>/attempts", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.WebhookAttempts, headers=NEXT_PAGE)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def attempts(page: dict[str, Any], webhook_id: UUID) -> Any:
    """List requests of a webhook that failed or that a person asked for, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        edit.found(session, tenant_id, webhook_id)
        rows, count, last = repo.attempts(session, tenant_id, webhook_id, **page)
    return {"attempts": rows, "count": count}, 200, next_page(last)


@blueprint.route("/webhooks/<uuid:webhook_id>/test", methods=["POST"])
@blueprint.response(200, schemas.WebhookAttemptShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(503, description=_BUSY)
@needs(Scope.WEBHOOKS)
def test(webhook_id: UUID) -> Any:
    """Send a test event now, and show the answer

    It takes 10 seconds at most.
    """
    return provided(ByHand).test(caller().tenant_id, webhook_id)


@blueprint.route("/webhooks/<uuid:webhook_id>/redeliver", methods=["POST"])
@blueprint.arguments(schemas.Redelivery)
@blueprint.response(200, schemas.WebhookAttemptShape)
@blueprint.alt_response(404, description="No such webhook, or no event at this position.")
@blueprint.alt_response(503, description=_BUSY)
@needs(Scope.WEBHOOKS)
def redeliver(wanted: dict[str, Any], webhook_id: UUID) -> Any:
    """Send an event once more now, and show the answer

    Its webhook-id is the same as before. It takes 10 seconds at most.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        edit.found(session, tenant_id, webhook_id)
    try:
        place = Position.parse(wanted["position"])
    except ValueError as error:
        raise InvalidInput("Some fields are not valid.", fields={"position": [f"{error}: {_POSITION}"]}) from error
    return provided(ByHand).redeliver(tenant_id, webhook_id, place)


@blueprint.route("/webhooks/<uuid:webhook_id>/replays", methods=["GET"])
@blueprint.response(200, schemas.Replays)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WEBHOOKS)
def replays(webhook_id: UUID) -> Any:
    """List the replays of a webhook, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        edit.found(session, tenant_id, webhook_id)
        return {"replays": repo.replays(session, tenant_id, webhook_id)}


@blueprint.route("/webhooks/<uuid:webhook_id>/replays", methods=["POST"])
@blueprint.arguments(schemas.Window)
@blueprint.response(202, schemas.ReplayShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="The webhook is disabled, or too many replays are not finished.")
@needs(Scope.WEBHOOKS)
def replay(wanted: dict[str, Any], webhook_id: UUID) -> Any:
    """Send the events of a time once more

    Each has the same webhook-id as before. A worker sends them beside new events.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        made = edit.replay(session, tenant_id, webhook_id, wanted["begin"], wanted["stop"])
        rows = repo.replays(session, tenant_id, webhook_id)
    return next(row for row in rows if row.id == made)
