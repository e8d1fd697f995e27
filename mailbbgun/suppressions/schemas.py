"""Shapes of suppressions in requests and answers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from mailbbgun.core import addresses
from mailbbgun.http.schemas import Moment, Page, Time
from mailbbgun.suppressions import targets
from mailbbgun.suppressions.repo import Entry

#: Characters of a reason, at most.
REASON_SIZE = 200
#: The reason of an entry that gives none.
MANUAL = "manual"
#: Entries of one request, at most.
MOST_ENTRIES = 1000

_ADDRESS = {"description": "Nothing is sent to this address.", "example": "ann@example.com"}
_DOMAIN = {"description": "Or: nothing is sent to any address of this domain.", "example": "example.com"}


def _one_line(text: str) -> None:
    if not text.isprintable():
        raise ValidationError("Must be one line without control characters.")


class NewSuppression(Schema):
    """An address or a domain to suppress."""

    address = fields.String(validate=validate.Length(max=addresses.LONGEST), metadata=_ADDRESS)
    domain = fields.String(validate=validate.Length(max=addresses.LONGEST_DOMAIN + 1), metadata=_DOMAIN)
    reason = fields.String(
        load_default=MANUAL,
        validate=[validate.Length(1, REASON_SIZE), _one_line],
        metadata={"description": "Why, in words of yours; lists can be filtered by it.", "example": "complained"},
    )
    expires_at = Moment(
        load_default=None,
        allow_none=True,
        metadata={"description": "From then on mail goes there again; null: never.", "example": "2030-01-01T00:00:00Z"},
    )

    @post_load
    def entry(self, data: Mapping[str, Any], **_: Any) -> Entry:
        """Return the entry. Raises :class:`ValidationError` with a sentence for each field that is wrong."""
        return entry_of(data.get("address"), data.get("domain"), data["reason"], data["expires_at"])


def entry_of(address: str | None, domain: str | None, reason: str, expires_at: datetime | None) -> Entry:
    """Return an entry for an address or a domain.

    Raises :class:`ValidationError` with a sentence for each field that is wrong.
    """
    if (address is None) == (domain is None):
        raise ValidationError("Give either an address or a domain.", "address")
    name = "domain" if address is None else "address"
    try:
        target = targets.of_domain(domain or "") if address is None else targets.of_address(address)
    except ValueError as error:
        raise ValidationError(str(error), name) from error
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ValidationError("Has passed, so nothing would be suppressed.", "expires_at")
    return Entry(target=target, reason=reason, expires_at=expires_at)


class NewSuppressions(NewSuppression):
    """One address or domain to suppress, or a list of them."""

    suppressions = fields.List(
        fields.Nested(NewSuppression),
        validate=validate.Length(1, MOST_ENTRIES),
        metadata={
            "description": f"1 to {MOST_ENTRIES} of them, in place of one; known ones get the new reason and end."
        },
    )

    @validates_schema
    def either(self, data: Mapping[str, Any], **_: Any) -> None:
        """Require one entry or a list. Raises :class:`ValidationError`."""
        if "suppressions" in data and ("address" in data or "domain" in data):
            raise ValidationError("Give one address or domain, or a list of suppressions.", "suppressions")

    @post_load
    def entry(self, data: Mapping[str, Any], **_: Any) -> list[Entry]:
        """Return the entries. Raises :class:`ValidationError` with a sentence for each field that is wrong."""
        if "suppressions" in data:
            return list(data["suppressions"])
        return [entry_of(data.get("address"), data.get("domain"), data["reason"], data["expires_at"])]


class SuppressionShape(Schema):
    """A suppression."""

    id = fields.UUID()
    address = fields.String(allow_none=True)
    domain = fields.String(allow_none=True)
    reason = fields.String()
    created_at = Time()
    expires_at = Time(allow_none=True)


class Outcome(Schema):
    """What adding suppressions did."""

    added = fields.Integer(metadata={"description": "How many are new."})
    changed = fields.Integer(metadata={"description": "How many existed; they have the new reason and end."})
    stopped = fields.Integer(metadata={"description": "Deliveries that waited, and ended as ERROR, suppressed."})
    in_hand = fields.Integer(
        metadata={
            "description": "Deliveries that a worker is sending at this moment, and that may still arrive. After "
            "this answer no other begins."
        }
    )


class FaultyRow(Schema):
    """A row of a CSV that was not taken."""

    line = fields.Integer()
    message = fields.String()


class Imported(Outcome):
    """What an import did."""

    rejected = fields.Integer(metadata={"description": "Rows that were not taken."})
    errors = fields.List(fields.Nested(FaultyRow), metadata={"description": "The first of them, and why."})


class Suppressions(Schema):
    """A page of suppressions, newest first."""

    suppressions = fields.List(fields.Nested(SuppressionShape))
    count = fields.Integer(metadata={"description": "How many match in all."})


class _AddressQuery(fields.String):
    """An address in a query: a + in it is a plus, not a space."""

    plus = True


class SuppressionFilters(Page):
    """Which suppressions to list."""

    address = _AddressQuery(
        load_default=None,
        validate=validate.Length(max=addresses.LONGEST),
        metadata={"description": "The one of this address; a + is a plus.", "example": "ann@example.com"},
    )
    domain = fields.String(
        load_default=None,
        validate=validate.Length(max=addresses.LONGEST_DOMAIN + 1),
        metadata={"description": "The one of this whole domain.", "example": "example.com"},
    )
    reason = fields.String(
        load_default=None,
        validate=validate.Length(1, REASON_SIZE),
        metadata={"description": "Those with exactly this reason.", "example": "unsubscribed"},
    )

    @post_load
    def target(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Replace address and domain by the target. Raises :class:`ValidationError`."""
        address, domain = data.pop("address"), data.pop("domain")
        if address is None and domain is None:
            return data
        return data | {"target": entry_of(address, domain, MANUAL, None).target}
