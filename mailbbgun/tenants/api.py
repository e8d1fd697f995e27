"""``/tenants`` and ``/tenants/{id}/keys``, for keys with the scope ``admin``; ``/audit``, of the caller's own tenant."""

import ipaddress
import re
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

from marshmallow import Schema, ValidationError, fields, post_load, validate
from sqlalchemy.orm import Session

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable, Time
from mailbbgun.http.urls import address_of, next_page
from mailbbgun.services import Services
from mailbbgun.tenants import audit, grants, keys, repo
from mailbbgun.tenants.models import STATUSES, ApiKey, Tenant

blueprint = Blueprint("tenants", __name__, description="Who may send, and by which keys.")

NAME = validate.Regexp(
    r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-]?\Z", error="Must be 1 to 64 letters, digits, spaces and . _ -"
)
NOT_BLANK = validate.Regexp(r"\s*\S|\Z", error="Must have more in it than white space.")
MOST_ENTRIES = 100  # of each list of a key
LONGEST_ADDRESS = 320  # characters: 64, an @, 255 (RFC 5321 §4.5.3.1)
_ADDRESS_OR_DOMAIN = re.compile(
    r"(?:[^\s@<>,;]{1,64}@)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_PER_MINUTE: dict[str, Any] = {"validate": validate.Range(1, 1_000_000), "strict": True, "allow_none": True}
_LINK = {"Link": {"description": 'rel="next": the next page, if there is one.', "schema": {"type": "string"}}}


class AddressOrDomain(fields.String):
    """An e-mail address, or a domain for all addresses of it, in lower case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip().lower().removeprefix("@")
        if len(text) > LONGEST_ADDRESS or not _ADDRESS_OR_DOMAIN.fullmatch(text):
            raise ValidationError("Not an address like ann@example.com, nor a domain like example.com.")
        return text


class Network(fields.String):
    """An IP network in CIDR notation, or one address."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            text: str = super()._deserialize(value, attr, data, **kwargs).strip()
            if "%" in text:  # a zone, which means something on one machine only
                raise ValueError(text)
            return str(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValidationError("Not a network like 192.0.2.0/24 or 2001:db8::/32, nor an address.") from error


def _several(entry: fields.Field[Any], sentence: str) -> fields.List[Any]:
    return fields.List(entry, validate=validate.Length(max=MOST_ENTRIES), metadata={"description": sentence})


class TenantLimits(Schema):
    """What a tenant may use; null is without limit."""

    max_requests_per_minute = fields.Integer(
        **_PER_MINUTE, metadata={"description": "Requests of all its keys together."}
    )
    max_messages_per_day = fields.Integer(
        strict=True,
        allow_none=True,
        validate=validate.Range(0, 10**9),
        metadata={"description": "Messages accepted in a day (UTC)."},
    )


class NewTenant(TenantLimits):
    """A tenant to be."""

    name = fields.String(required=True, validate=NAME, metadata={"example": "shop"})


class TenantChange(TenantLimits):
    """What is to change of a tenant."""

    name = fields.String(validate=NAME)
    status = fields.String(
        validate=validate.OneOf(STATUSES),
        metadata={
            "description": "suspended: nothing new is accepted, and what waits is held until it is active again."
        },
    )


class TenantShape(TenantLimits):
    """A tenant."""

    id = fields.UUID()
    name = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    created_at = Time()


class Tenants(Schema):
    """A page of tenants, newest first."""

    tenants = fields.List(fields.Nested(TenantShape))
    count = fields.Integer()


class NewKey(Schema):
    """A key to be."""

    name = fields.String(
        required=True, validate=(validate.Length(1, 100), NOT_BLANK), metadata={"example": "shop's web server"}
    )
    kind = fields.Enum(
        KeyKind,
        by_value=True,
        metadata={"description": "live; test: all mail goes to the catcher; team: to guests only."},
    )
    scopes = fields.List(
        fields.Enum(Scope, by_value=True),
        validate=validate.Length(1),
        metadata={"description": "By default messages:write and messages:read."},
    )
    senders = _several(
        AddressOrDomain(),
        "From must be one of these addresses, or of one of these domains; by default it may be anything.",
    )
    networks = _several(Network(), "Requests must come from one of these networks; by default from anywhere.")
    guests = _several(AddressOrDomain(), "Of a team key: the addresses and domains it may send to.")
    max_requests_per_minute = fields.Integer(**_PER_MINUTE)
    expires_at = Time(allow_none=True)

    @post_load
    def wish(self, data: dict[str, Any], **_: Any) -> keys.Wish:
        """Return what keys are made by."""
        if data.get("kind") is KeyKind.TEAM and not data.get("guests"):
            raise ValidationError({"guests": ["`guests` is required: a team key sends to them only."]})
        if data.get("guests") and data.get("kind") is not KeyKind.TEAM:
            raise ValidationError({"guests": ["Only a team key has guests; leave `guests` out, or make `kind` team."]})
        if (end := data.get("expires_at")) is not None and end <= datetime.now(UTC):
            raise ValidationError({"expires_at": ["Is in the past."]})
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return keys.Wish(**given)


class KeyShape(Schema):
    """A key, but for its secret."""

    id = fields.UUID()
    prefix = fields.String(
        metadata={"description": "The part that is shown: mbg_<prefix>_…", "example": "k3v9x0q2m7ab"}
    )
    name = fields.String()
    kind = fields.String(validate=validate.OneOf([kind.value for kind in KeyKind]))
    scopes = fields.List(fields.String())
    senders = fields.List(fields.String())
    networks = fields.List(fields.String())
    guests = fields.List(fields.String())
    max_requests_per_minute = fields.Integer(allow_none=True)
    created_at = Time()
    expires_at = Time(allow_none=True)
    revoked_at = Time(allow_none=True)
    last_used_at = Time(allow_none=True, metadata={"description": "To within some seconds."})


class MintedKey(KeyShape):
    """A new key, with what its holder shows. Keep it: it is told this once."""

    key = fields.String(metadata={"example": "mbg_k3v9x0q2m7ab_…"})


class Keys(Schema):
    """A page of keys, newest first."""

    keys = fields.List(fields.Nested(KeyShape))
    count = fields.Integer()


def _not_repeated(_: str) -> None:
    raise ValidationError(
        "Is not taken here: the new key would have to be kept to be told again. List the keys, and revoke one too many."
    )


class Unrepeatable(Schema):
    """The header that safe repetition would need, which here it cannot have."""

    key = fields.String(
        data_key=idempotency.HEADER,
        validate=_not_repeated,
        metadata={"description": "Refused: a new key is kept nowhere."},
    )


class Rotation(Schema):
    """For how long the old key goes on working."""

    hours = fields.Integer(
        load_default=24,
        strict=True,
        validate=validate.Range(0, 8760),
        metadata={"description": "The old key lives for so long."},
    )


class AuditShape(Schema):
    """Something that must not go unseen."""

    id = fields.UUID()
    at = Time()
    action = fields.String(metadata={"example": audit.REVEALED})
    key_id = fields.UUID(
        allow_none=True, metadata={"description": "By which key; null: by none, where none is asked for."}
    )
    address = fields.String(
        allow_none=True, metadata={"description": "The IP address it was asked from.", "example": "192.0.2.1"}
    )
    data = fields.Dict(metadata={"description": "What it was about."})


class Audit(Schema):
    """A page of the audit, newest first."""

    audit = fields.List(fields.Nested(AuditShape))
    count = fields.Integer()


@blueprint.route("/audit", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, Audit, headers=_LINK)
@needs(Scope.ACCOUNTS)
def audit_index(page: dict[str, Any]) -> Any:
    """List who read passwords of your SMTP accounts, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        entries, count, last = repo.audit(session, tenant_id, **page)
    return {"audit": entries, "count": count}, 200, next_page(last)


@blueprint.route("/tenants", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, Tenants, headers=_LINK)
@needs(Scope.ADMIN)
def index(page: dict[str, Any]) -> Any:
    """List tenants, newest first"""
    with provided(Services).db.read() as session:
        tenants, count, last = repo.tenants(session, **page)
    return {"tenants": tenants, "count": count}, 200, next_page(last)


@blueprint.route("/tenants", methods=["POST"])
@blueprint.arguments(NewTenant)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, TenantShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description="There is a tenant of that name.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.ADMIN)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a tenant

    Not by a key with limits of its own whose tenant has limits too.
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
@blueprint.response(200, TenantShape)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def show(tenant_id: UUID) -> Any:
    """Show a tenant"""
    with provided(Services).db.read() as session:
        return _tenant(session, tenant_id)


@blueprint.route("/tenants/<uuid:tenant_id>", methods=["PATCH"])
@blueprint.arguments(TenantChange)
@blueprint.response(200, TenantShape)
@blueprint.alt_response(404, description="No such tenant.")
@blueprint.alt_response(409, description="There is a tenant of that name.")
@needs(Scope.ADMIN)
def change(wanted: dict[str, Any], tenant_id: UUID) -> Any:
    """Rename, limit, suspend or reactivate a tenant

    Within a second, in every process. A key with limits of its own, of a tenant that has limits or is suspended, raises none.
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
@blueprint.response(200, Keys, headers=_LINK)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def key_index(page: dict[str, Any], tenant_id: UUID) -> Any:
    """List a tenant's keys, newest first, those that have ended among them"""
    with provided(Services).db.read() as session:
        _tenant(session, tenant_id)
        found, count, last = repo.keys(session, tenant_id, **page)
    return {"keys": found, "count": count}, 200, next_page(last)


@blueprint.route("/tenants/<uuid:tenant_id>/keys", methods=["POST"])
@blueprint.arguments(NewKey)
@blueprint.arguments(Unrepeatable, location="headers", as_kwargs=True)
@blueprint.response(201, MintedKey, headers=LOCATION)
@blueprint.alt_response(404, description="No such tenant.")
@needs(Scope.ADMIN)
def key_create(wish: keys.Wish, tenant_id: UUID) -> Any:
    """Make a key

    The answer is the only place where it can be read whole. It gets no scope that you lack; in any tenant it may do no
    more, and lives no longer, than your own key.
    """
    services = provided(Services)
    with services.db.write() as session:
        grants.check(session, caller(), _tenant(session, tenant_id), wish, _per_minute(services))
        minted = keys.create(session, services.vault, tenant_id, wish)
    return _minted(minted)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>", methods=["GET"])
@blueprint.response(200, KeyShape)
@blueprint.alt_response(404, description="No such key.")
@needs(Scope.ADMIN)
def key_show(tenant_id: UUID, key_id: UUID) -> Any:
    """Show a key"""
    with provided(Services).db.read() as session:
        return _key(session, tenant_id, key_id)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>", methods=["DELETE"])
@blueprint.response(200, KeyShape)
@blueprint.alt_response(404, description="No such key.")
@needs(Scope.ADMIN)
def key_revoke(tenant_id: UUID, key_id: UUID) -> Any:
    """Revoke a key

    Within a second, in every process.
    """
    with provided(Services).db.write() as session:
        _key(session, tenant_id, key_id)
        repo.revoke(session, tenant_id, key_id)
    with provided(Services).db.read() as session:
        return _key(session, tenant_id, key_id)


@blueprint.route("/tenants/<uuid:tenant_id>/keys/<uuid:key_id>/rotate", methods=["POST"])
@blueprint.arguments(Rotation, required=False)
@blueprint.arguments(Unrepeatable, location="headers", as_kwargs=True)
@blueprint.response(201, MintedKey, headers=LOCATION)
@blueprint.alt_response(404, description="No such key.")
@blueprint.alt_response(409, description="The key has ended.")
@needs(Scope.ADMIN)
def key_rotate(wanted: dict[str, Any], tenant_id: UUID, key_id: UUID) -> Any:
    """Make a key like this one, which goes on working for some hours"""
    services = provided(Services)
    with services.db.write() as session:
        tenant, per_minute = _tenant(session, tenant_id), _per_minute(services)
        permit = partial(grants.check, session, caller(), tenant, per_minute=per_minute, copied=True)
        minted = keys.rotate(session, services.vault, tenant_id, key_id, wanted["hours"] * 3600, permit)
    return _minted(minted)


def _per_minute(services: Services) -> int | None:
    """Return how often who shows no key may ask, and keys without a limit of their own; None: without limit."""
    return services.settings.RATE_LIMIT_PER_MINUTE or None


def told_once(minted: keys.Minted) -> dict[str, Any]:
    """Return what :class:`MintedKey` shows."""
    return {**{name: getattr(minted.key, name) for name in KeyShape().fields}, "key": minted.token}


def _shape(tenant: Tenant) -> dict[str, Any]:
    return cast(dict[str, Any], TenantShape().dump(tenant))


def _minted(minted: keys.Minted) -> Any:
    location = address_of("tenants.key_show", tenant_id=minted.key.tenant_id, key_id=minted.key.id)
    return told_once(minted), 201, {"Location": location}


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
