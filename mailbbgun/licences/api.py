"""The HTTP routes of licences.

Tenants issue and revoke them with a key that has the scope ``licences``. The machines of their
customers have no key: a token is all the permission that they need for its own seats.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, cast
from uuid import UUID

import orjson
from flask import Response, request
from sqlalchemy.orm import Session

from mailbbgun.accept.accept import Acceptor
from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.licences import issue, keys, mail, repo, schemas, seats
from mailbbgun.licences.limit import PublicRequests
from mailbbgun.licences.models import Licence
from mailbbgun.licences.seats import LIST_SECONDS, Machine
from mailbbgun.licences.state import standing
from mailbbgun.services import Services

blueprint = Blueprint("licences", __name__, description="Signed licences of your customers, and their seats.")

_NONE = "No such licence."
_OVER = "It is revoked, or was renewed already."
_NO_SEAT = "It is not in force, or has no free seat."
_MANY = "Too many requests of this address."
_SHAPE = schemas.LicenceShape()
_COLUMNS = [one.attribute or name for name, one in _SHAPE.fields.items() if name != "status"]


def _public(view: Callable[..., Any]) -> Callable[..., Any]:
    """Bound how often an address uses a view that needs no key."""

    @wraps(view)
    def bounded(*args: Any, **values: Any) -> Any:
        provided(PublicRequests).count(request.remote_addr)
        return view(*args, **values)

    return bounded


@blueprint.route("/licences", methods=["GET"])
@blueprint.arguments(schemas.LicenceFilters, location="query")
@blueprint.response(200, schemas.Licences, headers=NEXT_PAGE)
@needs(Scope.LICENCES)
def index(filters: dict[str, Any]) -> Any:
    """List your licences, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        found, count, last = repo.page(session, tenant_id, **filters)
        now = repo.now(session)
    return {"licences": [_values(one, now) for one in found], "count": count}, 200, next_page(last)


@blueprint.route("/licences", methods=["POST"])
@blueprint.arguments(
    schemas.NewLicence,
    example={"type": "standard", "subject": "Example Ltd", "email": "ann@example.com", "seats": 5},
)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.FullLicence, headers=LOCATION | REPLAYED)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.LICENCES)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Issue a licence

    The answer has its token, a JWS that your software verifies offline.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    iss = issue.issuer(services.settings)

    def make(session: Session, licence_id: UUID) -> Licence:
        return issue.issue(session, services.vault, iss, tenant_id, licence_id, wanted)

    return _made(key["key"], {"licence": wanted}, make)


@blueprint.route("/licences/<uuid:licence_id>", methods=["GET"])
@blueprint.response(200, schemas.FullLicence)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(503, description="The token cannot be decrypted.")
@needs(Scope.LICENCES)
def show(licence_id: UUID) -> Any:
    """Show a licence, its token and its machines"""
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.read(tenant_id) as session:
        return _whole(session, services, tenant_id, licence_id)


@blueprint.route("/licences/<uuid:licence_id>/revoke", methods=["POST"])
@blueprint.arguments(schemas.Revocation)
@blueprint.response(200, schemas.LicenceShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.LICENCES)
def revoke(wanted: dict[str, Any], licence_id: UUID) -> Any:
    """Revoke a licence, its renewals and what it renewed

    Its seats are free at once, and it joins the list of revoked licences.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        licence = issue.revoke(session, tenant_id, licence_id, wanted.get("reason"))
        return _values(licence, repo.now(session))


@blueprint.route("/licences/<uuid:licence_id>/renew", methods=["POST"])
@blueprint.arguments(schemas.Renewal)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.FullLicence, headers=LOCATION | REPLAYED)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description=_OVER)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.LICENCES)
def renew(wanted: dict[str, Any], key: dict[str, str | None], licence_id: UUID) -> Any:
    """Renew a licence: issue a new one in its place

    Machines keep their seats. The old token stays in force for overlap_days.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    iss = issue.issuer(services.settings)

    def make(session: Session, new: UUID) -> Licence:
        before = issue.found(session, tenant_id, licence_id)
        return issue.renew(session, services.vault, iss, before, new, wanted)

    return _made(key["key"], {"renewal": wanted, "of": str(licence_id)}, make)


@blueprint.route("/licences/<uuid:licence_id>/mail", methods=["POST"])
@blueprint.response(200, schemas.Mailed)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="It is not in force.")
@needs(Scope.LICENCES)
def send(licence_id: UUID) -> Any:
    """Mail a licence's token to its owner

    It is a message like any other; the key needs the scope messages:write, too. Repeated within a day,
    it answers the first message's id and sends nothing.
    """
    services, who = provided(Services), caller()
    mail.check_caller(who)
    with services.db.read(who.tenant_id) as session:
        licence = issue.in_force(issue.found(session, who.tenant_id, licence_id), repo.now(session))
        submission, options = mail.letter(licence, services.vault.decrypt(licence.token))
    return {"message_id": provided(Acceptor).accept(submission, who, options).result().id}


@blueprint.route("/licences/verify", methods=["POST"])
@blueprint.arguments(schemas.LicenceQuestion)
@blueprint.response(200, schemas.LicenceVerdict)
@blueprint.alt_response(429, description=_MANY)
@_public
def verify(question: dict[str, Any]) -> Any:
    """Verify a licence's token

    No API key is needed. A token that nobody of us signed has the status invalid.
    """
    return seats.verify(provided(Services), question["token"], question.get("fingerprint"))


@blueprint.route("/licences/activate", methods=["POST"])
@blueprint.arguments(schemas.NewActivation)
@blueprint.response(200, schemas.Lease)
@blueprint.alt_response(409, description=_NO_SEAT)
@blueprint.alt_response(429, description=_MANY)
@_public
def activate(wanted: dict[str, Any]) -> Any:
    """Take a seat for a machine

    No API key is needed. A machine that has a seat keeps it, and gets a new lease.
    """
    return seats.activate(provided(Services), wanted.pop("token"), Machine(**wanted))


@blueprint.route("/licences/heartbeat", methods=["POST"])
@blueprint.arguments(schemas.OfMachine)
@blueprint.response(200, schemas.Lease)
@blueprint.alt_response(409, description="It is not in force, or the machine has no seat.")
@blueprint.alt_response(429, description=_MANY)
@_public
def heartbeat(wanted: dict[str, Any]) -> Any:
    """Renew a machine's lease

    No API key is needed.
    """
    return seats.heartbeat(provided(Services), wanted.pop("token"), Machine(**wanted))


@blueprint.route("/licences/deactivate", methods=["POST"])
@blueprint.arguments(schemas.OfMachine)
@blueprint.response(204)
@blueprint.alt_response(429, description=_MANY)
@_public
def deactivate(wanted: dict[str, Any]) -> None:
    """Give a machine's seat back

    No API key is needed. It may be repeated.
    """
    seats.deactivate(provided(Services), wanted.pop("token"), Machine(**wanted))


@blueprint.route("/licences/revoked", methods=["GET"])
@blueprint.arguments(schemas.OfTenant, location="query")
@blueprint.response(200, schemas.RevokedList)
@blueprint.alt_response(429, description=_MANY)
@_public
def revoked(query: dict[str, Any]) -> Any:
    """List a tenant's revoked and superseded licences, signed

    No API key is needed. It may be cached for five minutes.
    """
    services = provided(Services)
    keys.ensure(services.db, services.vault)
    with services.db.read(query["tenant"]) as session:
        return _cacheable({"token": seats.revocations(session, services, query["tenant"])})


@blueprint.route("/.well-known/jwks.json", methods=["GET"])
@blueprint.response(200, schemas.JWKSet)
@blueprint.alt_response(429, description=_MANY)
@_public
def jwks() -> Any:
    """Show the public keys of licences

    No API key is needed. It may be cached for five minutes; fetch it again if a kid is not in it.
    """
    services = provided(Services)
    with services.db.read() as session:
        return _cacheable(keys.jwks(session, services.settings))


def _cacheable(value: Mapping[str, Any]) -> Response:
    response = Response(orjson.dumps(value), mimetype="application/json")
    response.headers["Cache-Control"] = f"public, max-age={LIST_SECONDS}"
    response.add_etag()
    return cast(Response, response.make_conditional(request))


def _made(key: str | None, given: Mapping[str, Any], make: Callable[[Session, UUID], Licence]) -> Response:
    """Issue a licence once, and answer it. The answer that is kept with an idempotency key has no token."""
    services, tenant_id = provided(Services), caller().tenant_id

    def add(licence_id: UUID) -> dict[str, Any]:
        return {"id": str(make(session, licence_id).id)}

    plain = orjson.loads(orjson.dumps(given))
    claim = None if key is None else idempotency.claim_of(caller(), key, plain)
    with services.db.write(tenant_id) as session:
        kept, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
        whole = _whole(session, services, tenant_id, UUID(kept["id"]))
    answer = cast(dict[str, Any], schemas.FullLicence().dump(whole))
    return created(answer, address_of("licences.show", licence_id=kept["id"]), replayed)


def _whole(session: Session, services: Services, tenant_id: UUID, licence_id: UUID) -> dict[str, Any]:
    licence = issue.found(session, tenant_id, licence_id)
    machines = repo.activations(session, tenant_id, licence.root_id)
    more = {"token": services.vault.decrypt(licence.token), "activations": machines}
    return _values(licence, repo.now(session)) | more


def _values(licence: Licence, now: datetime) -> dict[str, Any]:
    """Return what an answer shows of a licence, read while the session is open."""
    return {name: getattr(licence, name) for name in _COLUMNS} | {"status": standing(licence, now)}
