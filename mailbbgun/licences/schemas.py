"""What the HTTP API and the command line take and show of licences."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, post_load, validate

from mailbbgun.core.addresses import address
from mailbbgun.http.bad_input import EXAMPLE_ID, SECRET
from mailbbgun.http.schemas import Moment, Page, Time
from mailbbgun.licences.issue import OVERLAP_DAYS, TYPES
from mailbbgun.licences.state import LicenceState
from mailbbgun.licences.tokens import LONGEST

MOST_SEATS, MOST_FEATURES, MOST_METADATA = 1_000_000, 50, 4096
STATES = [one.value for one in LicenceState]

_FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_FINGERPRINT = re.compile(r"[A-Za-z0-9._:+/=@-]{8,128}")


def _one_line(text: str) -> None:
    if not text.isprintable() or text != text.strip():
        raise ValidationError("Must be one line without control characters, and no blank at either end.")


def _email(text: str) -> None:
    try:
        address(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _feature(text: str) -> None:
    if not _FEATURE.fullmatch(text):
        raise ValidationError("Must be 1 to 64 letters, digits, dots, colons, - and _, such as sso.")


def _fingerprint(text: str) -> None:
    if not _FINGERPRINT.fullmatch(text):
        raise ValidationError("Must be 8 to 128 letters, digits and characters of ._:+/=@-, such as a hash in hex.")


def _notes(value: Mapping[str, Any]) -> None:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValidationError("Must be JSON whose numbers fit into 64 bits.") from error
    if size > MOST_METADATA:
        raise ValidationError(f"It has {size} bytes of JSON, and {MOST_METADATA} are the most.")


class LicenceTerms(Schema):
    """What a licence allows, and when."""

    seats = fields.Integer(
        strict=True,
        validate=validate.Range(1, MOST_SEATS),
        metadata={"description": "How many machines may use it at once; by default 1.", "example": 5},
    )
    features = fields.List(
        fields.String(validate=_feature),
        validate=validate.Length(max=MOST_FEATURES),
        metadata={"description": "What your software shall enable. In the token.", "example": ["sso", "export"]},
    )
    not_before = Moment(metadata={"description": "When it begins; by default now.", "example": "2026-12-01"})
    expires_at = Moment(
        allow_none=True, metadata={"description": "When it ends; null: never.", "example": "2099-12-01T00:00:00Z"}
    )
    notes = fields.Dict(
        keys=fields.String(),
        data_key="metadata",
        validate=_notes,
        metadata={"description": "Notes of your own, which are not in the token.", "example": {"order": "A-1"}},
    )

    @post_load
    def _stored(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Write the address as it is stored, and name each feature once."""
        if "email" in values:
            values["email"] = address(values["email"])
        if "features" in values:
            values["features"] = list(dict.fromkeys(values["features"]))
        return values


def _type(**options: Any) -> fields.String:
    about = {"description": "A trial must have an end.", "example": "standard"}
    return fields.String(validate=validate.OneOf(TYPES), metadata=about, **options)


def _owner(**options: Any) -> fields.String:
    about = {"description": "The address of its owner.", "example": "ann@example.com"}
    return fields.String(validate=[validate.Length(1, 254), _email], metadata=about, **options)


class NewLicence(LicenceTerms):
    """The body of a request to issue a licence."""

    type = _type(required=True)
    subject = fields.String(
        required=True,
        validate=[validate.Length(1, 200), _one_line],
        metadata={"description": "Who it is for. In the token.", "example": "Example Ltd"},
    )
    email = _owner(required=True)


class Renewal(LicenceTerms):
    """The body of a request to renew a licence. What is not given is as before."""

    type = _type()
    email = _owner()
    overlap_days = fields.Integer(
        strict=True,
        validate=validate.Range(0, 366),
        metadata={"description": f"Days for which the old token stays in force; by default {OVERLAP_DAYS}."},
    )


class Revocation(Schema):
    """The body of a request to revoke a licence."""

    reason = fields.String(
        validate=[validate.Length(1, 200), _one_line],
        metadata={"description": "Why, for your own people.", "example": "refunded"},
    )


class LicenceFilters(Page):
    """The query of the list of licences."""

    type = fields.String(validate=validate.OneOf(TYPES), metadata={"description": "Only this type."})
    status = fields.String(validate=validate.OneOf(STATES), metadata={"description": "Only those in this state."})
    email = fields.String(validate=validate.Length(1, 254), metadata={"description": "Only those of this owner."})
    text = fields.String(
        validate=validate.Length(1, 100), metadata={"description": "Only those with this in subject or address."}
    )


class LicenceShape(Schema):
    """A licence."""

    id = fields.UUID()
    type = fields.String(validate=validate.OneOf(TYPES))
    status = fields.String(validate=validate.OneOf(STATES))
    subject = fields.String()
    email = fields.String()
    seats = fields.Integer()
    features = fields.List(fields.String())
    notes = fields.Dict(data_key="metadata")
    not_before = Time()
    expires_at = Time(allow_none=True)
    kid = fields.String(metadata={"description": "The key that signed its token."})
    revoked_at = Time(allow_none=True)
    revoked_reason = fields.String(allow_none=True)
    superseded_by = fields.UUID(allow_none=True, metadata={"description": "The licence that renewed it."})
    superseded_at = Time(allow_none=True, metadata={"description": "Until then both are in force."})
    created_at = Time()


class ActivationShape(Schema):
    """A machine that holds a seat."""

    fingerprint = fields.String()
    name = fields.String(allow_none=True)
    activated_at = Time()
    seen_at = Time()
    held_until = Time(metadata={"description": "Then its seat is free, unless it is heard from."})


class FullLicence(LicenceShape):
    """A licence with its token, and the machines that hold its seats."""

    token = fields.String(metadata={"description": "A JWS: what its owner needs.", **SECRET})
    activations = fields.List(fields.Nested(ActivationShape))


class Licences(Schema):
    """A page of licences, newest first."""

    licences = fields.List(fields.Nested(LicenceShape))
    count = fields.Integer()


class Mailed(Schema):
    """The message that carries a token."""

    message_id = fields.UUID()


def _token() -> fields.String:
    about = {"description": "A licence's token.", "example": "eyJ…", **SECRET}
    return fields.String(required=True, validate=validate.Length(1, LONGEST), metadata=about)


def _machine(**options: Any) -> fields.String:
    about = {"description": "What tells the machine from others, such as a hash.", "example": "9f86d081884c7d65"}
    return fields.String(validate=_fingerprint, metadata=about, **options)


class LicenceQuestion(Schema):
    """A token to verify. With a fingerprint, the answer says whether that machine holds a seat."""

    token = _token()
    fingerprint = _machine()


class OfMachine(Schema):
    """A token, and the machine that shows it."""

    token = _token()
    fingerprint = _machine(required=True)


class NewActivation(OfMachine):
    """A token, and the machine that wants a seat."""

    name = fields.String(
        validate=[validate.Length(1, 100), _one_line],
        metadata={"description": "What people call the machine.", "example": "build-3"},
    )


class LicenceVerdict(Schema):
    """What is known of a token."""

    valid = fields.Boolean(metadata={"description": "Whether it is in force."})
    status = fields.String(validate=validate.OneOf([*STATES, "invalid"]))
    reason = fields.String(metadata={"description": "Why it is invalid; then nothing else is told."})
    id = fields.UUID()
    type = fields.String()
    subject = fields.String()
    seats = fields.Integer()
    seats_used = fields.Integer()
    activated = fields.Boolean(allow_none=True, metadata={"description": "null without a fingerprint."})
    features = fields.List(fields.String())
    not_before = Time()
    expires_at = Time(allow_none=True)
    superseded_by = fields.UUID(allow_none=True)


class Lease(Schema):
    """A machine's right to a seat."""

    lease = fields.String(metadata={"description": "A JWS with the typ licence-lease+jwt, for this machine."})
    expires_at = Time(metadata={"description": "Send a heartbeat before."})
    grace_until = Time(metadata={"description": "Until then it may work if it cannot reach the service."})
    seats = fields.Integer()
    seats_used = fields.Integer()


class OfTenant(Schema):
    """The query of the list of revoked licences."""

    tenant = fields.UUID(required=True, metadata={"description": "The aud of your tokens.", "example": EXAMPLE_ID})


class RevokedList(Schema):
    """Licences that are not in force although their tokens have not ended."""

    token = fields.String(metadata={"description": "A JWS with the typ licence-revocations+jwt."})


class JWKSet(Schema):
    """Public keys (RFC 7517 §5)."""

    keys = fields.List(fields.Dict())
