"""What the HTTP API takes and shows of sending domains. A private key is never shown."""

from marshmallow import Schema, fields, validate

from mailbbgun.domains.dkim import ALGORITHMS
from mailbbgun.domains.dns.findings import ABOUT
from mailbbgun.domains.dns.findings import STATES as FINDING_STATES
from mailbbgun.domains.dns.records import PURPOSES
from mailbbgun.domains.models import POLICIES, STATES
from mailbbgun.http.schemas import Time

_LOCAL = {"description": "Deliver its mail here, to mailboxes. A domain is local to one tenant.", "example": False}
_POLICY = {
    "description": "The most that is done about mail from other servers that fails DMARC, or looks like spam.",
    "example": "quarantine",
}


class NewDomain(Schema):
    """The body of a request to add a sending domain."""

    name = fields.String(
        required=True,
        validate=validate.Length(1, 254),
        metadata={
            "description": "The domain of From addresses. Mail from its subdomains is signed, too.",
            "example": "example.com",
        },
    )
    local = fields.Boolean(load_default=False, truthy={True}, falsy={False}, metadata=_LOCAL)
    policy = fields.String(load_default="none", validate=validate.OneOf(POLICIES), metadata=_POLICY)


class DomainChange(Schema):
    """The body of a request to change a sending domain."""

    local = fields.Boolean(truthy={True}, falsy={False}, metadata=_LOCAL)
    policy = fields.String(validate=validate.OneOf(POLICIES), metadata=_POLICY)


class Existence(Schema):
    """What is known of a domain."""

    exists = fields.Boolean(metadata={"description": "Whether it is one of your domains, or local to any tenant."})
    local = fields.Boolean(metadata={"description": "Whether its mail is delivered here."})


class CheckOptions(Schema):
    """The body of a request to check a sending domain."""

    force = fields.Boolean(
        load_default=False,
        metadata={"description": "Activate keys that wait, although their records are not seen from here."},
    )


class RecordShape(Schema):
    """A DNS record to publish."""

    purpose = fields.String(validate=validate.OneOf(PURPOSES))
    type = fields.String(metadata={"example": "TXT"})
    name = fields.String(metadata={"example": "mbb261128k7q2er._domainkey.example.com"})
    value = fields.String(metadata={"example": "v=DKIM1; k=rsa; p=MIIB…"})
    strings = fields.List(
        fields.String(),
        metadata={"description": "The value in strings of at most 255 octets, for panels that want that."},
    )
    zone = fields.String(metadata={"description": "The record as a line of a zone file."})


class DKIMKeyShape(Schema):
    """A DKIM key pair, without its private key."""

    selector = fields.String(metadata={"example": "mbb261128k7q2er"})
    algorithm = fields.String(validate=validate.OneOf(ALGORITHMS))
    state = fields.String(
        validate=validate.OneOf(STATES),
        metadata={
            "description": "pending: waits for its record; active: signs; retired: signs only messages that were "
            "accepted before it was replaced."
        },
    )
    created_at = Time()
    active_from = Time(allow_none=True)
    retired_at = Time(allow_none=True)
    removed_at = Time(
        allow_none=True, metadata={"description": "When a retired key is deleted. Keep its DNS record until then."}
    )


class FindingShape(Schema):
    """What the DNS said about one thing."""

    about = fields.String(validate=validate.OneOf(ABOUT))
    name = fields.String(metadata={"description": "The DNS name."})
    state = fields.String(validate=validate.OneOf(FINDING_STATES))
    words = fields.String(metadata={"description": "What it means, and what to do."})
    found = fields.List(fields.String(), metadata={"description": "The records that there are."})


class DomainShape(Schema):
    """A sending domain."""

    id = fields.UUID()
    name = fields.String(
        metadata={"description": "In lower case, an international name in A-labels.", "example": "example.com"}
    )
    local = fields.Boolean(metadata={"description": "Whether its mail is delivered here, to mailboxes."})
    policy = fields.String(validate=validate.OneOf(POLICIES), metadata=_POLICY)
    signs = fields.Boolean(metadata={"description": "Whether mail from the domain is signed."})
    created_at = Time()
    checked_at = Time(allow_none=True, metadata={"description": "When the DNS was last asked; null: never."})


class DomainDetails(DomainShape):
    """A sending domain with its keys, the records to publish, and what the DNS said when it was last asked."""

    keys = fields.List(fields.Nested(DKIMKeyShape))
    records = fields.List(fields.Nested(RecordShape))
    findings = fields.List(fields.Nested(FindingShape))


class Domains(Schema):
    """A page of sending domains, newest first."""

    domains = fields.List(fields.Nested(DomainShape))
    count = fields.Integer()
