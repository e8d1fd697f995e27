"""The HTTP routes of tenants, their keys and the audit.

``/tenants`` and ``/tenants/{id}/keys`` need the scope ``admin``. ``/audit`` needs the scope
``accounts`` and shows the caller's own tenant.
"""

from functools import partial
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.services import Services
from mailbbgun.tenants import grants, keys, repo, schemas
from mailbbgun.tenants.models import ApiKey, Tenant

blueprint = Blueprint("tenants", __name__, description="Who may send, and by which keys.")



@blueprint.route("/audit", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Audit, headers=NEXT_PAGE)
@needs(Scope.ACCOUNTS)
def audit_index(page: dict[str, Any]) -> Any:
    """List who read passwords of your SMTP accounts, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        entries, count, last = repo.audit(session, tenant_id, **page)
    return {"audit": entries, "count": count}, 200, next_page(last)


@blueprint.route("/tenants", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Tenants, headers=NEXT_PAGE)
@needs(Scope.ADMIN)
def index(page: dict[str, Any]) -> Any:
    """List tenants, newest first"""
    with provided(Services).db.read() as session:
        tenants, count, last = repo.tenants(session, **page)
    return {"tenants": tenants, "count": count}, 200, next_page(last)


@blueprint.route("/tenants", methods=["POST"])
@blueprint.arguments(schemas.NewTenant)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.TenantShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description="There is a tenant of that name.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.ADMIN)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a tenant

    Refused if both your key and your tenant have limits.
    """
    services = provided(Services)
    claim = idempotency.claim_of(caller(), key["key"], {"tenant": wanted}) if key["key"] is not None else None
    with services.db.write() as session:
        grants.check_tenant(session, caller(), None, wanted, _per_minute(services))
        seconds = services.settings.IDEMPOTENCY_SECONDS
        answer, replayed = idempotency.once(
            session, claim, seconds, lambda one: _shape(repo.add_tenant(session, wanted, one))
        )
    return created(answer, address_of("tenants.show", tenant_id=answer["id"]), replayed)


@blueprint.route("/tenants/<uuid:tenant_id>", methods=["GET"])
@blueprint.response(200, schemas.TenantShape)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def show(tenant_id: UUID) -> Any:
    """Show a tenant"""
    with provided(Services).db.read() as session:
        return _tenant(session, tenant_id)


@blueprint.route("/tenants/<uuid:tenant_id>", methods=["PATCH"])
@blueprint.arguments(schemas.TenantChange)
@blueprint.response(200, schemas.TenantShape)
@blueprint.alt_response(404, description="No such tenant.")
@blueprint.alt_response(409, description="There is a tenant of that name.")
@needs(Scope.ADMIN)
def change(wanted: dict[str, Any], tenant_id: UUID) -> Any:
    """Rename, limit, suspend or reactivate a tenant

    Every process applies the change within a second. If both your key and your tenant have limits,
    you can only rename your own tenant and lower its limits.
    """
    services = provided(Services)
    with services.db.write() as session:
        repo.lock(session, tenant_id)
        grants.check_tenant(session, caller(), _tenant(session, tenant_id), wanted, _per_minute(services))
        repo.change_tenant(session, tenant_id, wanted)
    with services.db.read() as session:
        return _tenant(session, tenant_id)


@blueprint.route("/tenants/<uuid:tenant_id>/keys", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Keys, headers=NEXT_PAGE)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def key_index(page: dict[str, Any], tenant_id: UUID) -> Any:
    """List a tenant's keys, newest first, including revoked and expired ones"""
    with provided(Services).db.read() as session:
        _tenant(session, tenant_id)
        found, count, last = repo.keys(session, tenant_id, **page)
    return {"keys": found, "count": count}, 200, next_page(last)


@blueprint.route("/tenants/<uuid:tenant_id>/keys", methods=["POST"])
@blueprint.arguments(schemas.NewKey)
@blueprint.arguments(schemas.Unrepeatable, location="headers", as_kwargs=True)
@blueprint.response(201, schemas.MintedKey, headers=LOCATION)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def key_create(spec: keys.KeySpec, tenant_id: UUID) -> Any:
    """Make a key

    Only this answer shows the whole key. The new key gets no scope that you lack. In no tenant may
    it do more, or live longer, than your own key.
    """
    services = provided(Services)
    with services.db.write() as session:
        grants.check(session, caller(), _tenant(session, tenant_id), spec, _per_minute(services))
        minted = keys.create(session, services.vault, tenant_id, spec)
    return _minted(minted)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>", methods=["GET"])
@blueprint.response(200, schemas.KeyShape)
@blueprint.alt_response(404, description="No such key.")
@needs(Scope.ADMIN)
def key_show(tenant_id: UUID, key_id: UUID) -> Any:
    """Show a key"""
    with provided(Services).db.read() as session:
        return _key(session, tenant_id, key_id)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>", methods=["DELETE"])
@blueprint.response(200, schemas.KeyShape)
@blueprint.alt_response(404, description="No such key.")
@needs(Scope.ADMIN)
def key_revoke(tenant_id: UUID, key_id: UUID) -> Any:
    """Revoke a key

    Every process refuses the key within a second. If both your key and your tenant have limits, you
    can only revoke keys of your tenant that may do no more than yours.
    """
    services = provided(Services)
    with services.db.write() as session:
        tenant, key = _tenant(session, tenant_id), _key(session, tenant_id, key_id)
        grants.check_revocation(session, caller(), tenant, key, _per_minute(services))
        repo.revoke(session, tenant_id, key_id)
    with services.db.read() as session:
        return _key(session, tenant_id, key_id)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>/rotate", methods=["POST"])
@blueprint.arguments(schemas.Rotation, required=False)
@blueprint.arguments(schemas.Unrepeatable, location="headers", as_kwargs=True)
@blueprint.response(201, schemas.MintedKey, headers=LOCATION)
@blueprint.alt_response(404, description="No such key.")
@blueprint.alt_response(409, description="The key has ended.")
@needs(Scope.ADMIN)
def key_rotate(wanted: dict[str, Any], tenant_id: UUID, key_id: UUID) -> Any:
    """Make a key like this one, which still works for some hours"""
    services = provided(Services)
    with services.db.write() as session:
        tenant, per_minute = _tenant(session, tenant_id), _per_minute(services)
        permit = partial(grants.check, session, caller(), tenant, per_minute=per_minute, copied=True)
        minted = keys.rotate(session, services.vault, tenant_id, key_id, wanted["hours"] * 3600, permit)
    return _minted(minted)


def _per_minute(services: Services) -> int | None:
    """Return the requests a minute for keys without a limit and for callers without a key.

    None: any number.
    """
    return services.settings.RATE_LIMIT_PER_MINUTE or None


def _shape(tenant: Tenant) -> dict[str, Any]:
    return cast(dict[str, Any], schemas.TenantShape().dump(tenant))


def _minted(minted: keys.Minted) -> Any:
    location = address_of("tenants.key_show", tenant_id=minted.key.tenant_id, key_id=minted.key.id)
    return schemas.shown_once(minted), 201, {"Location": location}


def _tenant(session: Session, tenant_id: UUID) -> Tenant:
    found = repo.tenant(session, tenant_id)
    if found is None:
        raise NotFound("There is no such tenant.")
    return found


def _key(session: Session, tenant_id: UUID, key_id: UUID) -> ApiKey:
    found = repo.key(session, tenant_id, key_id)
    if found is None:
        raise NotFound("There is no such key.")
    return found
