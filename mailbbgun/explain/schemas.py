"""Shapes of explanations, and of what a dry run found."""

from marshmallow import Schema, fields, validate

from mailbbgun.domains.dns.findings import STATES
from mailbbgun.explain.facts import KINDS
from mailbbgun.explain.reasons import Code
from mailbbgun.http.schemas import Time
from mailbbgun.messages.status import STATUSES, Reason

CODES = sorted({*(one.value for one in Code), *(one.value for one in Reason)})


class Cause(Schema):
    """A cause."""

    code = fields.String(validate=validate.OneOf(CODES))
    text = fields.String(metadata={"description": "The cause in plain words."})
    next = fields.String(metadata={"description": "What comes next, or what a person can do."})
    next_at = Time(allow_none=True, metadata={"description": "When; null: nobody knows, or nothing comes."})


class ExplainedDelivery(Cause):
    """Why one delivery is where it is."""

    id = fields.UUID()
    address = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    also = fields.List(fields.Nested(Cause), metadata={"description": "Further causes that will hold it up."})


class Explanation(Schema):
    """Why a message is where it is."""

    id = fields.UUID()
    status = fields.String(validate=validate.OneOf(STATUSES))
    deliveries = fields.List(fields.Nested(ExplainedDelivery))


class WouldReceive(Schema):
    """What would become of one recipient's mail."""

    address = fields.String()
    kind = fields.String(validate=validate.OneOf(["to", "cc", "bcc"]))
    suppressed = fields.Boolean(metadata={"description": "Whether nothing would be sent to it."})
    way = fields.String(validate=validate.OneOf(KINDS))
    account = fields.String(allow_none=True, metadata={"description": "The SMTP account that would take it."})
    why = fields.String(metadata={"description": "Why it would leave that way."})


class SignatureShape(Schema):
    """A signature that the mail would get."""

    domain = fields.String()
    selector = fields.String()
    algorithm = fields.String()


class Judgement(Schema):
    """What the DNS said about one thing."""

    state = fields.String(validate=validate.OneOf(STATES))
    text = fields.String()


class DKIMJudgement(Judgement):
    """About DKIM."""

    signatures = fields.List(fields.Nested(SignatureShape))
    aligned = fields.Boolean(metadata={"description": "Whether a signature's domain agrees with From's."})


class SPFJudgement(Judgement):
    """About SPF."""

    domain = fields.String(metadata={"description": "The domain that bounces go to."})
    aligned = fields.Boolean(metadata={"description": "Whether it agrees with From's."})


class DMARCJudgement(Judgement):
    """About DMARC."""

    passes = fields.Boolean(allow_none=True, metadata={"description": "null: what is known does not decide it."})


class AuthenticationShape(Schema):
    """How receivers would judge the mail, from what the DNS said at ``checked_at``."""

    from_domain = fields.String()
    checked_at = Time(allow_none=True)
    dkim = fields.Nested(DKIMJudgement)
    spf = fields.Nested(SPFJudgement)
    dmarc = fields.Nested(DMARCJudgement)


class DryRunShape(Schema):
    """What would become of a message. Nothing of it is stored."""

    subject = fields.String()
    sender = fields.String(data_key="from", attribute="from")
    mail_from = fields.String()
    size = fields.Integer(metadata={"description": "Bytes of the MIME."})
    send_at = Time(allow_none=True)
    useful_until = Time(allow_none=True)
    mime = fields.String(metadata={"description": "Its beginning, up to 64 KB, with a note in place of each file."})
    mime_is_cut = fields.Boolean()
    recipients = fields.List(fields.Nested(WouldReceive))
    authentication = fields.Nested(AuthenticationShape)
