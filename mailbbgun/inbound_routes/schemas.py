"""What the HTTP API takes and shows of inbound routes."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from mailbbgun.http.schemas import Time
from mailbbgun.inbound_routes.patterns import LONGEST, why_no_pattern
from mailbbgun.outgoing import urls

#: Most actions of a route: one of each kind. Most addresses that it forwards to.
MOST_ACTIONS, MOST_FORWARDS = 3, 10
#: Characters of a route's name, at most.
LONGEST_NAME = 200
#: The forms in which mail is posted.
FORMS = ("json", "mailgun")


def _pattern(text: str) -> None:
    if why := why_no_pattern(text):
        raise ValidationError(why)


def _name(text: str) -> None:
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise ValidationError(f"Must be one line of up to {LONGEST_NAME} characters, without control characters.")


class HeaderPattern(Schema):
    """A pattern for a field of the header."""

    name = fields.String(
        required=True,
        validate=validate.Regexp(r"[!-9;-~]{1,100}\Z", error="Not the name of a header field."),
        metadata={"example": "X-Priority"},
    )
    value = fields.String(
        load_default="*",
        validate=_pattern,
        metadata={"description": "Its value as people read it; * stands for any characters.", "example": "*urgent*"},
    )


class InboundMatch(Schema):
    """Which mail a route is about. All that is given must match; {} is all mail."""

    recipient = fields.String(
        validate=_pattern,
        metadata={
            "description": f"The recipient, in any case; * stands for any characters. Up to {LONGEST} characters.",
            "example": "support*@example.com",
        },
    )
    header = fields.Nested(HeaderPattern)


class StoreAction(Schema):
    """Keeps the mail in a mailbox."""

    mailbox = fields.String(
        validate=validate.Length(1, 254),
        metadata={"description": "Its address; by default the recipient's own mailbox.", "example": "all@example.com"},
    )


class PostAction(Schema):
    """Posts the mail to a URL."""

    url = fields.String(
        required=True,
        validate=validate.Length(1, urls.LONGEST),
        metadata={
            "description": "https, or http. Its host must be public, unless ALLOW_PRIVATE_HOSTS has it. Redirects are "
            "not followed.",
            "example": "https://app.example.com/mail",
        },
    )
    form = fields.String(
        load_default="json",
        validate=validate.OneOf(FORMS),
        metadata={"description": "json, or the form that Mailgun posts."},
    )


class InboundAction(Schema):
    """One action: it has one of these fields."""

    store = fields.Nested(StoreAction)
    forward = fields.List(
        fields.String(validate=validate.Length(1, 254)),
        validate=validate.Length(1, MOST_FORWARDS),
        metadata={"description": "Addresses that it is forwarded to.", "example": ["ann@example.net"]},
    )
    post = fields.Nested(PostAction)

    @validates_schema
    def _one(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError(f"Has one of store, forward and post; this has {', '.join(data) or 'none'}.")


def _each_once(actions: list[dict[str, Any]]) -> None:
    kinds = [kind for action in actions for kind in action]
    if len(set(kinds)) < len(kinds):
        raise ValidationError("Has one action of each kind, at most: add another route for another one.")


_PRIORITY = {"description": "The lowest comes first; of equal ones the oldest route.", "example": 0}
_STOP = {"description": "Try no route after this one, and do not ask for the recipient's mailbox."}
_SECRET = {
    "description": "whsec_ and 24 to 64 bytes in base64, which sign posts. If not given, one is made.",
    "example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}


class InboundRouteChange(Schema):
    """The body of a request to change an inbound route."""

    name = fields.String(validate=_name, metadata={"description": "A name of your own."})
    priority = fields.Integer(strict=True, validate=validate.Range(-32_768, 32_767), metadata=_PRIORITY)
    matching = fields.Nested(InboundMatch, data_key="match")
    actions = fields.List(
        fields.Nested(InboundAction), validate=validate.And(validate.Length(max=MOST_ACTIONS), _each_once)
    )
    stop = fields.Boolean(metadata=_STOP)
    enabled = fields.Boolean()
    secret = fields.String(metadata=_SECRET | {"description": "Another secret, at once: whsec_ and 24 to 64 bytes."})


class NewInboundRoute(Schema):
    """The body of a request to add an inbound route."""

    name = fields.String(load_default="", validate=_name, metadata={"example": "support"})
    priority = fields.Integer(strict=True, load_default=0, validate=validate.Range(-32_768, 32_767), metadata=_PRIORITY)
    matching = fields.Nested(InboundMatch, data_key="match", load_default=dict)
    actions = fields.List(
        fields.Nested(InboundAction),
        required=True,
        validate=validate.And(validate.Length(max=MOST_ACTIONS), _each_once),
        metadata={"example": [{"post": {"url": "https://app.example.com/mail"}}]},
    )
    stop = fields.Boolean(load_default=False, metadata=_STOP)
    enabled = fields.Boolean(load_default=True)
    secret = fields.String(load_default=None, allow_none=True, metadata=_SECRET)


class InboundRouteShape(Schema):
    """An inbound route."""

    id = fields.UUID()
    name = fields.String()
    priority = fields.Integer()
    matching = fields.Nested(InboundMatch, data_key="match")
    actions = fields.List(fields.Nested(InboundAction))
    stop = fields.Boolean()
    enabled = fields.Boolean()
    created_at = Time()
    updated_at = Time()


class InboundRouteWithSecret(InboundRouteShape):
    """An inbound route with its secret, which is shown only once."""

    secret = fields.String(metadata={"example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})


class InboundRoutes(Schema):
    """A page of inbound routes, newest first."""

    inbound_routes = fields.List(fields.Nested(InboundRouteShape))
    count = fields.Integer()


class InboundTrial(Schema):
    """The body of a request to try routes on a mail that does not exist."""

    recipient = fields.String(
        required=True, validate=validate.Length(1, 254), metadata={"example": "support@example.com"}
    )
    headers = fields.Dict(
        fields.String(validate=validate.Length(1, 100)),
        fields.String(validate=validate.Length(max=10_000)),
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=100),
        metadata={
            "description": "The fields of its header. Without them, the answer is what a server hears before it sends "
            "the mail.",
            "example": {"Subject": "It is urgent"},
        },
    )


class MatchedRoute(Schema):
    """A route that matches."""

    id = fields.UUID()
    name = fields.String()


class InboundVerdict(Schema):
    """What would become of a mail."""

    routes = fields.List(fields.Nested(MatchedRoute), metadata={"description": "Those that match, in their order."})
    stores = fields.List(fields.String(), metadata={"description": "The mailboxes that it would be kept in."})
    forwards = fields.List(fields.String())
    posts = fields.List(fields.String(), metadata={"description": "The URLs that it would be posted to."})
    reply = fields.String(
        metadata={
            "description": "What the MX port would say to the recipient, or with headers to the mail.",
            "example": "250 2.1.5 taken",
        }
    )
