"""Shapes of events in answers. The command line uses them, too."""

from marshmallow import Schema, fields, validate

from mailbbgun.events.kinds import Kind
from mailbbgun.http.schemas import Time


class Happening(Schema):
    """An event."""

    id = fields.UUID()
    at = Time()
    kind = fields.String(validate=validate.OneOf([kind.value for kind in Kind]))
    address = fields.String(
        allow_none=True, metadata={"description": "The recipient; null when it concerns the whole message."}
    )
    data = fields.Dict(
        metadata={"description": "What more is known: host, ip, code and reply of the other server, phase, claim…"}
    )


class Timeline(Schema):
    """A page of events, newest first."""

    events = fields.List(fields.Nested(Happening))
    count = fields.Integer()
