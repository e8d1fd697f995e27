"""What the HTTP API takes and shows of webhooks."""

from typing import Any

from marshmallow import Schema, fields, post_dump, validate

from mailbbgun.events.kinds import Kind
from mailbbgun.events.reading import Position
from mailbbgun.http.schemas import Time
from mailbbgun.outgoing.urls import LONGEST

KINDS = [kind.value for kind in Kind]
CAUSES = ("event", "retry", "replay", "redelivery", "test")
STATES = ("active", "paused", "disabled")
#: Most hours for which a secret signs beside its successor.
MOST_HOURS = 24 * 30


class WebhookChange(Schema):
    """The body of a request to change a webhook."""

    url = fields.String(
        validate=validate.Length(1, LONGEST),
        metadata={
            "description": "Where events are sent: https, or http. Its host must be public, unless "
            "ALLOW_PRIVATE_HOSTS has it. Redirects are not followed.",
            "example": "https://app.example.com/mail-events",
        },
    )
    kinds = fields.List(
        fields.String(validate=validate.OneOf(KINDS)),
        validate=validate.Length(max=len(KINDS)),
        metadata={"description": "The kinds of events to send; empty: all.", "example": ["delivered", "bounced"]},
    )
    description = fields.String(validate=validate.Length(max=500), metadata={"description": "A note of your own."})
    enabled = fields.Boolean(
        metadata={"description": "A disabled webhook keeps its place. Once enabled, it gets all since then."}
    )


_SECRET = {
    "description": "whsec_ and 24 to 64 bytes in base64, which sign requests. If not given, one is made.",
    "example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}


class NewWebhook(WebhookChange):
    """The body of a request to add a webhook."""

    url = fields.String(
        required=True, validate=validate.Length(1, LONGEST), metadata={"example": "https://app.example.com/mail-events"}
    )
    kinds = fields.List(
        fields.String(validate=validate.OneOf(KINDS)),
        load_default=list,
        validate=validate.Length(max=len(KINDS)),
        metadata={"description": "The kinds of events to send; empty: all.", "example": ["delivered", "bounced"]},
    )
    description = fields.String(load_default="", validate=validate.Length(max=500))
    enabled = fields.Boolean(load_default=True)
    test = fields.Boolean(
        load_default=False,
        metadata={"description": "Send events of test messages, those sent by test keys, and of no others."},
    )
    secret = fields.String(load_default=None, allow_none=True, metadata=_SECRET)


class SecretRotation(Schema):
    """The body of a request to rotate a webhook's secret."""

    secret = fields.String(load_default=None, allow_none=True, metadata=_SECRET)
    keep_hours = fields.Integer(
        load_default=24,
        validate=validate.Range(0, MOST_HOURS),
        metadata={"description": "For how many hours the secret of now signs beside the new one."},
    )


class WebhookShape(Schema):
    """A webhook."""

    id = fields.UUID()
    url = fields.String()
    description = fields.String()
    kinds = fields.List(fields.String())
    test = fields.Boolean()
    enabled = fields.Boolean()
    state = fields.String(validate=validate.OneOf(STATES))
    created_at = Time()
    updated_at = Time()
    position = fields.String(metadata={"description": "All events up to this place of the log are done."})
    retries = fields.Integer(metadata={"description": "Events that failed by themselves, and are sent again."})
    failing_since = Time(allow_none=True, metadata={"description": "Nothing was acknowledged since then."})
    next_try_at = Time(allow_none=True, metadata={"description": "If paused: when it is tried again."})
    disabled_reason = fields.String(allow_none=True, metadata={"description": "Why we disabled it."})
    two_secrets_until = Time(allow_none=True, metadata={"description": "Until then two secrets sign."})


class WebhookWithSecret(WebhookShape):
    """A webhook with its secret, which is shown only once."""

    secret = fields.String(metadata={"example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})


class Webhooks(Schema):
    """A page of webhooks, newest first."""

    webhooks = fields.List(fields.Nested(WebhookShape))
    count = fields.Integer()


class WebhookAttemptShape(Schema):
    """One request."""

    id = fields.UUID()
    kind = fields.String(metadata={"description": "The kind of the event; test: a test event."})
    event_id = fields.UUID()
    position = fields.String(allow_none=True, metadata={"description": "The event's place, to redeliver it."})
    cause = fields.String(validate=validate.OneOf(CAUSES))
    at = Time()
    seconds = fields.Float()
    request_headers = fields.Dict(fields.String(), fields.String())
    status = fields.Integer(allow_none=True, metadata={"description": "null: there was no answer."})
    answer_headers = fields.Dict(fields.String(), fields.String())
    answer = fields.String(metadata={"description": "The first 4 KiB of the answer's body."})
    error = fields.String(allow_none=True, metadata={"description": "Why it does not count as acknowledged."})

    @post_dump(pass_original=True)
    def _with_position(self, shown: dict[str, Any], original: Any, **_: Any) -> dict[str, Any]:
        its = original if isinstance(original, dict) else original._mapping
        place = Position(its["position"], its["event_id"])
        return shown | {"position": str(place) if place.number else None}


class WebhookAttempts(Schema):
    """A page of requests, newest first."""

    attempts = fields.List(fields.Nested(WebhookAttemptShape))
    count = fields.Integer()


class Redelivery(Schema):
    """The body of a request to send an event once more."""

    position = fields.String(
        load_default="",
        validate=validate.Length(max=100),
        metadata={"description": "The position of the event, as events and attempts show it."},
    )


class Window(Schema):
    """The body of a request to send the events of a time once more."""

    begin = Time(data_key="from", load_default=None, metadata={"description": "The time of the first event."})
    stop = Time(data_key="to", load_default=None, metadata={"description": "Events before this time are sent."})


class ReplayShape(Schema):
    """A replay: events of a time that are sent once more."""

    id = fields.UUID()
    from_at = Time(data_key="from")
    to_at = Time(data_key="to")
    created_at = Time()
    finished_at = Time(allow_none=True, metadata={"description": "null: it is under way."})


class Replays(Schema):
    """The replays of a webhook, newest first."""

    replays = fields.List(fields.Nested(ReplayShape))
