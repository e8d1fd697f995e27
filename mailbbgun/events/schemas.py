"""Shapes of events in answers. The command line uses them, too."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from mailbbgun.events.following.pages import FIRST, LAST
from mailbbgun.events.kinds import ATTEMPTED, Kind
from mailbbgun.http.bad_input import EXAMPLE_ID
from mailbbgun.http.schemas import Count, Time


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


#: Stands for all kinds by which an attempt may end.
ATTEMPTED_WORD = "attempted"
#: Seconds that a request may wait for events, at most.
LONGEST_WAIT = 30
_PLACE = f"the position of an event, the `next` of an answer, {FIRST} (before the first event) or {LAST}"


class Kinds(fields.Field[frozenset[Kind]]):
    """Kinds of events in a query, with commas between them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> frozenset[Kind]:
        found: set[Kind] = set()
        for word in str(value).lower().split(","):
            try:
                found |= ATTEMPTED if word.strip() == ATTEMPTED_WORD else {Kind(word.strip())}
            except ValueError as error:
                known = ", ".join([*(kind.value for kind in Kind), ATTEMPTED_WORD])
                raise ValidationError(f"{word.strip()!r} is not a kind of event; these are: {known}.") from error
        return frozenset(found)


class RecipientQuery(fields.String):
    """An address in a query. A + in it is a plus, not a blank."""

    plus = True


class LogQuery(Schema):
    """Which events of the log to list."""

    kinds = Kinds(
        data_key="kind",
        load_default=None,
        metadata={
            "type": "string",
            "description": "Those of these kinds, with commas between them. attempted: every end of an attempt.",
            "example": "bounced,expired",
        },
    )
    message_id = fields.UUID(
        data_key="message", load_default=None, metadata={"description": "Of this message.", "example": EXAMPLE_ID}
    )
    recipient = RecipientQuery(
        load_default=None,
        validate=validate.Length(1, 320),
        metadata={"description": "Of deliveries to this address.", "example": "ann@example.com"},
    )
    tag = fields.String(
        load_default=None, validate=validate.Length(1, 128), metadata={"description": "Of messages with this tag."}
    )
    account = fields.String(
        load_default=None,
        validate=validate.Length(1, 256),
        metadata={"description": "Of this SMTP account, by its name."},
    )
    begin = Time(
        data_key="since",
        load_default=None,
        metadata={"description": "At this moment or later.", "example": "2026-01-31T12:00:00Z"},
    )
    end = Time(
        data_key="until",
        load_default=None,
        metadata={"description": "Before this moment.", "example": "2026-02-01T00:00:00Z"},
    )
    text = fields.String(
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "With this text, in any case, in the subject or in the data, as in a reply."},
    )
    limit = Count(load_default=100, validate=validate.Range(1, 1000), metadata={"description": "At most so many."})
    after = fields.String(
        load_default=None, metadata={"description": f"Oldest first, after this place: {_PLACE}.", "example": FIRST}
    )
    before = fields.String(
        load_default=None, metadata={"description": "Newest first, before this place: the `next` of the page before."}
    )
    cursor = fields.String(
        load_default=None, metadata={"description": "Oldest first, after the place of this cursor. It stays there."}
    )
    wait = Count(
        load_default=0,
        validate=validate.Range(0, LONGEST_WAIT),
        metadata={"description": "With after or cursor: wait for so many seconds if there is no event yet."},
    )

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        places = [name for name in ("after", "before", "cursor") if data[name] is not None]
        if len(places) > 1:
            raise ValidationError(f"Is given together with {places[0]}: give one of them.", places[1])
        if data["wait"] and places in ([], ["before"]):
            raise ValidationError("Needs after or cursor: nothing new comes before the newest event.", "wait")


class LogEvent(Schema):
    """An event, with what is known of its message. That is null or empty once the message was deleted."""

    id = fields.UUID()
    position = fields.String(metadata={"description": "Its place in the log, for `after` and for cursors."})
    kind = fields.String(validate=validate.OneOf([kind.value for kind in Kind]))
    at = fields.String(metadata={"format": "date-time"})
    final = fields.Boolean(metadata={"description": "Whether the delivery has ended with it."})
    message_id = fields.UUID(allow_none=True)
    delivery_id = fields.UUID(allow_none=True)
    recipient = fields.String(allow_none=True)
    sender = fields.String(allow_none=True, data_key="from")
    subject = fields.String(allow_none=True)
    message_id_header = fields.String(allow_none=True)
    tags = fields.List(fields.String())
    metadata = fields.Dict()
    account = fields.String(allow_none=True)
    test = fields.Boolean()
    accepted_at = fields.String(allow_none=True, metadata={"format": "date-time"})
    data = fields.Dict()


class LogPage(Schema):
    """A page of the log."""

    events = fields.List(fields.Nested(LogEvent))
    next = fields.String(
        allow_none=True,
        metadata={"description": "For `after`, or newest first for `before`; null: there are no older events."},
    )


class CursorPlace(Schema):
    """A place for a cursor."""

    position = fields.String(load_default=None, metadata={"description": f"It is {_PLACE}.", "example": FIRST})


class CursorShown(Schema):
    """A cursor."""

    name = fields.String()
    position = fields.String()
    updated_at = fields.String(metadata={"format": "date-time"})


class Cursors(Schema):
    """All cursors of the tenant."""

    cursors = fields.List(fields.Nested(CursorShown))
    count = fields.Integer()
