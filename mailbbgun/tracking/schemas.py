"""Shapes of what tracking shows."""

from marshmallow import Schema, fields, validate

from mailbbgun.events.kinds import Kind
from mailbbgun.http.schemas import Time
from mailbbgun.tracking.visitors import VISITORS


class VisitorCounts(Schema):
    """How many events there are, by who made them."""

    person, proxy, robot = (fields.Integer() for _ in VISITORS)


class Visitor(Schema):
    """The address behind an event."""

    event_id = fields.UUID()
    at = Time()
    kind = fields.String(validate=validate.OneOf([Kind.OPENED.value, Kind.CLICKED.value]))
    address = fields.String(metadata={"example": "203.0.113.7"})


class TrackingShape(Schema):
    """What is known of a message's readers."""

    opens = fields.Nested(VisitorCounts)
    clicks = fields.Nested(VisitorCounts)
    addresses = fields.List(
        fields.Nested(Visitor),
        metadata={"description": "The addresses behind its events, newest first, for TRACKING_IP_DAYS."},
    )
