"""The HTTP routes of alerts, ``/alerts``. They need the scope ``alerts``; rules about all tenants need ``admin``."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from mailbbgun.alerts import edit, repo, schemas
from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Nothing, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.services import Services

blueprint = Blueprint("alerts", __name__, description="Be told when something is wrong, and when it is right again.")

_NONE = "No such alert."
_FORBIDDEN = "The API key lacks the scope alerts, or the alert is about all tenants and the key lacks admin."


@blueprint.route("/alerts", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Alerts, headers=NEXT_PAGE)
@needs(Scope.ALERTS)
def index(page: dict[str, Any]) -> Any:
    """List your alerts with their states, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        found, count, last = repo.page(session, tenant_id, **page)
        states = repo.states(session, tenant_id, [one.id for one in found])
    return {"alerts": [edit.shape(one, states.get(one.id)) for one in found], "count": count}, 200, next_page(last)


@blueprint.route("/alerts", methods=["POST"])
@blueprint.arguments(
    schemas.NewAlert, example={"name": "bounces", "kind": "failure_rate", "emails": ["ops@example.com"]}
)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.AlertShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(409, description="You have an alert of that name already, or too many.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.ALERTS)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add an alert

    Workers look at its figure every ALERT_SECONDS. What is not given has a default by the kind.
    """
    services, who = provided(Services), caller()

    def add(alert_id: UUID) -> dict[str, Any]:
        made = edit.create(session, who, alert_id, wanted, edit.guard(provided(Services).settings))
        return cast(dict[str, Any], schemas.AlertShape().dump(edit.shape(made, None)))

    with services.db.write(who.tenant_id) as session:
        claim = idempotency.claim_of(who, key["key"], {"alert": wanted}) if key["key"] else None
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    return created(answer, address_of("alerts.show", alert_id=answer["id"]), replayed)


@blueprint.route("/alerts/<uuid:alert_id>", methods=["GET"])
@blueprint.response(200, schemas.AlertShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.ALERTS)
def show(alert_id: UUID) -> Any:
    """Show an alert and its state"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        return edit.shown(session, edit.found(session, tenant_id, alert_id))


@blueprint.route("/alerts/<uuid:alert_id>", methods=["PATCH"])
@blueprint.arguments(schemas.AlertChange, example={"threshold": 5})
@blueprint.response(200, schemas.AlertShape)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="You have another alert of that name.")
@needs(Scope.ALERTS)
def change(wanted: dict[str, Any], alert_id: UUID) -> Any:
    """Change an alert

    If it is switched off, its incidents end, and whoever was told that it fires is told that it is resolved.
    """
    who = caller()
    with provided(Services).db.write(who.tenant_id) as session:
        alert = edit.found(session, who.tenant_id, alert_id, lock=True)
        return edit.shown(session, edit.change(session, who, alert, wanted, edit.guard(provided(Services).settings)))


@blueprint.route("/alerts/<uuid:alert_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.ALERTS)
def remove(alert_id: UUID) -> Any:
    """Delete an alert with its incidents. No more notices are sent"""
    who = caller()
    with provided(Services).db.write(who.tenant_id) as session:
        edit.remove(session, who, edit.found(session, who.tenant_id, alert_id, lock=True))


@blueprint.route("/alerts/<uuid:alert_id>/silence", methods=["POST"])
@blueprint.arguments(schemas.Silence, required=False, example={"minutes": 60})
@blueprint.response(200, schemas.AlertShape)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.ALERTS)
def silence(wanted: dict[str, Any], alert_id: UUID) -> Any:
    """Send no notices for a while

    The alert is watched on. If it still fires when the silence is over, a notice says so then.
    """
    who = caller()
    with provided(Services).db.write(who.tenant_id) as session:
        alert = edit.found(session, who.tenant_id, alert_id, lock=True)
        until = schemas.silent_until(wanted, datetime.now(UTC))
        return edit.shown(session, edit.silence(session, who, alert, until))


@blueprint.route("/alerts/<uuid:alert_id>/test", methods=["POST"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(202, schemas.TestedAlert)
@blueprint.alt_response(403, description=_FORBIDDEN)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="The alert tells nobody.")
@blueprint.alt_response(429, description="Too many alerts were tested just now.")
@needs(Scope.ALERTS)
def try_out(_: dict[str, Any], alert_id: UUID) -> Any:
    """Send a notice that says it is a test, on each channel of an alert"""
    who = caller()
    with provided(Services).db.write(who.tenant_id) as session:
        alert = edit.found(session, who.tenant_id, alert_id, lock=True)
        return {"notices": edit.try_out(session, who, alert)}


@blueprint.route("/alerts/incidents", methods=["GET"])
@blueprint.arguments(schemas.IncidentQuery, location="query")
@blueprint.response(200, schemas.Incidents, headers=NEXT_PAGE)
@needs(Scope.ALERTS)
def incidents(wanted: dict[str, Any]) -> Any:
    """List what fires now and what has fired, newest first"""
    tenant_id = caller().tenant_id
    its = {"alert_id": wanted.pop("alert"), "state": wanted.pop("state")}
    with provided(Services).db.read(tenant_id) as session:
        found, count, last = repo.incidents(session, tenant_id, **its, **wanted)
    return {"incidents": found, "count": count}, 200, next_page(last)
