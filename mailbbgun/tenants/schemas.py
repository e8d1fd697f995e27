"""What the HTTP API takes and shows of tenants, their keys and the audit.

A secret is shown in one place only: :class:`MintedKey`, the answer to making or rotating a key.
"""

import ipaddress
import re
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from mailbbgun.core.caller import DuplicatePolicy, KeyKind, Scope
from mailbbgun.database import idempotency
from mailbbgun.http.schemas import Time
from mailbbgun.tenants import audit, keys
from mailbbgun.tenants.models import STATUSES

NAME = validate.Regexp(
    r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-]?\Z", error="Must be 1 to 64 letters, digits, spaces and . _ -"
)
NOT_BLANK = validate.Regexp(r"\s*\S|\Z", error="Must have more in it than white space.")
#: Most entries in each list of a key.
MOST_ENTRIES = 100
#: For how long duplicates can be guarded against, at most: a day.
MOST_DUPLICATE_SECONDS = 86_400
_POLICIES = (
    "answer: a duplicate is answered with the first message's id, as duplicate_of too; hold: it is stored, "
    "and sent only if somebody retries it."
)
#: Characters: 64 for the local part, one for the @-sign, 255 for the domain (RFC 5321 §4.5.3.1).
LONGEST_ADDRESS = 320
_ADDRESS_OR_DOMAIN = re.compile(
    r"(?:[^\s@<>,;]{1,64}@)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_PER_MINUTE: dict[str, Any] = {"validate": validate.Range(1, 1_000_000), "strict": True, "allow_none": True}


class AddressOrDomain(fields.String):
    """An e-mail address, or a domain that stands for all its addresses. Kept in lower case."""

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
            if "%" in text:  # an IPv6 zone has a meaning on one machine only (RFC 4007 §6)
                raise ValueError(text)
            return str(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValidationError("Not a network like 192.0.2.0/24 or 2001:db8::/32, nor an address.") from error


def _several(entry: fields.Field[Any], sentence: str) -> fields.List[Any]:
    return fields.List(entry, validate=validate.Length(max=MOST_ENTRIES), metadata={"description": sentence})


class TenantLimits(Schema):
    """What a tenant may use; null means no limit."""

    max_requests_per_minute = fields.Integer(
        **_PER_MINUTE, metadata={"description": "Requests of all its keys together."}
    )
    max_messages_per_day = fields.Integer(
        strict=True,
        allow_none=True,
        validate=validate.Range(0, 10**9),
        metadata={"description": "Messages accepted in a day (UTC)."},
    )
    max_storage = fields.Integer(
        strict=True,
        allow_none=True,
        validate=validate.Range(0, 2**60),
        metadata={"description": "Bytes of all its files together. Equal files count once.", "example": 10_000_000_000},
    )


class NewTenant(TenantLimits):
    """The body of a request to add a tenant."""

    name = fields.String(required=True, validate=NAME, metadata={"example": "shop"})


class TenantChange(TenantLimits):
    """The body of a request to change a tenant. Fields that are not given keep their values."""

    name = fields.String(validate=NAME)
    status = fields.String(
        validate=validate.OneOf(STATUSES),
        metadata={"description": "suspended: no message is accepted; pending mail is held until the tenant is active."},
    )


class TenantShape(TenantLimits):
    """A tenant, as answers show it."""

    id = fields.UUID()
    name = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    storage_used = fields.Integer(metadata={"description": "Bytes of its files now."})
    created_at = Time()


class Tenants(Schema):
    """A page of tenants, newest first."""

    tenants = fields.List(fields.Nested(TenantShape))
    count = fields.Integer()


class NewKey(Schema):
    """The body of a request to make a key."""

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
        "From must be one of these addresses or in one of these domains; by default any.",
    )
    networks = _several(Network(), "Requests must come from one of these networks; by default from anywhere.")
    guests = _several(AddressOrDomain(), "For a team key: the addresses and domains it may send to.")
    max_requests_per_minute = fields.Integer(**_PER_MINUTE)
    duplicate_seconds = fields.Integer(
        strict=True,
        allow_none=True,
        validate=validate.Range(0, MOST_DUPLICATE_SECONDS),
        metadata={
            "description": "Seconds for which the same mail to the same recipients is not sent again; 0 or null: off."
        },
    )
    duplicate_policy = fields.Enum(DuplicatePolicy, by_value=True, metadata={"description": _POLICIES})
    expires_at = Time(allow_none=True)

    @post_load
    def spec(self, data: dict[str, Any], **_: Any) -> keys.KeySpec:
        """Return the fields as the value that :func:`keys.create` takes."""
        if data.get("kind") is KeyKind.TEAM and not data.get("guests"):
            raise ValidationError({"guests": ["`guests` is required: a team key sends to them only."]})
        if data.get("guests") and data.get("kind") is not KeyKind.TEAM:
            raise ValidationError({"guests": ["Only a team key has guests; leave `guests` out, or make `kind` team."]})
        if (end := data.get("expires_at")) is not None and end <= datetime.now(UTC):
            raise ValidationError({"expires_at": ["Is in the past."]})
        data["duplicate_seconds"] = data.get("duplicate_seconds") or None
        if "duplicate_policy" in data and data["duplicate_seconds"] is None:
            raise ValidationError(
                {"duplicate_policy": ["Is for a key with `duplicate_seconds`; give both, or neither."]}
            )
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return keys.KeySpec(**given)


class KeyShape(Schema):
    """A key, without its secret."""

    id = fields.UUID()
    prefix = fields.String(
        metadata={"description": "The public part of the key: mbg_<prefix>_…", "example": "k3v9x0q2m7ab"}
    )
    name = fields.String()
    kind = fields.String(validate=validate.OneOf([kind.value for kind in KeyKind]))
    scopes = fields.List(fields.String())
    senders = fields.List(fields.String())
    networks = fields.List(fields.String())
    guests = fields.List(fields.String())
    max_requests_per_minute = fields.Integer(allow_none=True)
    duplicate_seconds = fields.Integer(allow_none=True)
    duplicate_policy = fields.String(
        validate=validate.OneOf([policy.value for policy in DuplicatePolicy]), metadata={"description": _POLICIES}
    )
    created_at = Time()
    expires_at = Time(allow_none=True)
    revoked_at = Time(allow_none=True)
    last_used_at = Time(allow_none=True, metadata={"description": "Accurate to a few seconds."})


class MintedKey(KeyShape):
    """A new key, with its secret. No other answer shows the secret."""

    key = fields.String(metadata={"example": "mbg_k3v9x0q2m7ab_…"})


class Keys(Schema):
    """A page of keys, newest first."""

    keys = fields.List(fields.Nested(KeyShape))
    count = fields.Integer()


def _not_repeated(_: str) -> None:
    raise ValidationError(
        "Not accepted here: to repeat the answer, the service would have to store the new key. "
        "List the keys, and revoke one too many."
    )


class Unrepeatable(Schema):
    """Refuses ``Idempotency-Key``: to repeat the answer one would have to store the secret."""

    key = fields.String(
        data_key=idempotency.HEADER,
        validate=_not_repeated,
        metadata={"description": "Refused: the service does not store the secret of a new key."},
    )


class Rotation(Schema):
    """The body of a request to rotate a key."""

    hours = fields.Integer(
        load_default=24,
        strict=True,
        validate=validate.Range(0, 8760),
        metadata={"description": "How long the old key still works."},
    )


class AuditShape(Schema):
    """An entry of the audit: an act that the tenant must be able to see later."""

    id = fields.UUID()
    at = Time()
    action = fields.String(metadata={"example": audit.REVEALED})
    key_id = fields.UUID(allow_none=True, metadata={"description": "The key that was used; null: none was."})
    address = fields.String(
        allow_none=True, metadata={"description": "The IP address of the client.", "example": "192.0.2.1"}
    )
    data = fields.Dict(metadata={"description": "What the act concerned."})


class Audit(Schema):
    """A page of the audit, newest first."""

    audit = fields.List(fields.Nested(AuditShape))
    count = fields.Integer()


def shown_once(minted: keys.Minted) -> dict[str, Any]:
    """Return the fields of :class:`MintedKey` for a new key."""
    return {**{name: getattr(minted.key, name) for name in KeyShape().fields}, "key": minted.token}
