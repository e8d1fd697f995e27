"""Shapes of batches: the body of ``POST /messages/batch``, and what answers tell."""

from copy import copy
from typing import Any

from marshmallow import Schema, fields, post_load, pre_load, validate

from mailbbgun.accept.fields import BCC, CC, SHAPES, TO
from mailbbgun.accept.schema import OPTIONAL, without_blanks
from mailbbgun.batches.batching import ALL_OR_NOTHING, PARTIAL
from mailbbgun.http.bad_input import EXAMPLE_ID
from mailbbgun.http.schemas import Time

#: Fields of the body that are not of a message.
OWN = ("recipients", "messages", "variables", "mode")
#: Fields of a message that a batch has not: each mail of it has one recipient, and is individual.
NOT_HERE = (TO, CC, BCC, "individual")


class Items(fields.Field[list[Any]]):
    """A list whose items the verb checks itself: marshmallow would take 50 µs for each."""

    expected = "a list"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("validator_failed")
        return value


def _items(sentence: str, example: Any) -> Items:
    shape = {"type": "array", "items": {"type": "object"}, "description": sentence, "example": [example]}
    return Items(load_default=None, allow_none=True, metadata=shape)


class _NewBatch(Schema):
    """The fields of a batch itself. Those that its messages share are added below."""

    recipients = _items(
        "Each gets a mail of its own: `to` is its address, `variables` the values for the texts, `metadata` its own.",
        {"to": "Ann Lee <ann@example.com>", "variables": {"name": "Ann"}, "metadata": {"order": 1234}},
    )
    messages = _items(
        "Or whole messages, each with the fields of POST /messages. Fields beside this one are for messages "
        "that lack them.",
        {"to": "ann@example.com", "subject": "Hello", "text": "It works."},
    )
    variables = fields.Dict(
        fields.String(),
        load_default=dict,
        metadata={"description": "For recipients that give no other value.", "example": {"shop": "Books & More"}},
    )
    mode = fields.String(
        load_default=ALL_OR_NOTHING,
        validate=validate.OneOf((ALL_OR_NOTHING, PARTIAL)),
        metadata={"description": "Whether one faulty item refuses the whole batch, or is left out and reported."},
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let every field be null, as in POST /messages."""
        field_obj.allow_none = True

    @pre_load
    def drop_blanks(self, data: Any, **_: Any) -> Any:
        """Leave out blank fields."""
        return without_blanks(data, OPTIONAL) if isinstance(data, dict) else data

    @post_load
    def parts(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return what was given: the fields of a batch, and those that messages share as ``common``."""
        given = {name: value for name, value in data.items() if value is not None}
        own = {name: given.pop(name) for name in OWN if name in given}
        return {**own, "common": given}


def _optional(shape: fields.Field[Any]) -> fields.Field[Any]:
    made = copy(shape)
    made.required = False
    return made


#: A batch to send.
NewBatch: Any = _NewBatch.from_dict(
    {name: _optional(shape) for name, shape in SHAPES.items() if name not in (*NOT_HERE, *OWN)}, name="NewBatch"
)


class ItemFaults(Schema):
    """An item of a batch that was refused."""

    index = fields.Integer(metadata={"description": "Its place in the request, from 0."})
    fields_ = fields.Dict(fields.String(), fields.List(fields.String()), data_key="fields", attribute="fields")


class AcceptedBatch(Schema):
    """What a client is told of an accepted batch."""

    batch_id = fields.UUID(metadata={"example": EXAMPLE_ID})
    accepted = fields.Integer(metadata={"description": "How many messages were stored."})
    refused = fields.Integer()
    ids = fields.List(
        fields.UUID(allow_none=True), metadata={"description": "For each item its message's id; null: it was refused."}
    )
    errors = fields.List(fields.Nested(ItemFaults))
    suppressed = fields.List(
        fields.String(),
        metadata={"description": "Recipients on the suppression list, to whom nothing is sent. Missing if none is."},
    )


class BatchShape(Schema):
    """A batch, and how far it is."""

    id = fields.UUID()
    created_at = Time()
    subject = fields.String(metadata={"description": "Before variables are filled in."})
    messages = fields.Integer(metadata={"description": "How many were accepted."})
    refused = fields.Integer(metadata={"description": "How many items were refused."})
    statuses = fields.Dict(
        fields.String(),
        fields.Integer(),
        metadata={"description": "Messages by status.", "example": {"PENDING": 10, "DELIVERED": 989, "ERROR": 1}},
    )
    progress = fields.Float(metadata={"description": "The part that has ended, from 0 to 1.", "example": 0.99})
    test = fields.Boolean()
    cancelled_at = Time(allow_none=True)


class BatchPage(Schema):
    """A page of batches, newest first."""

    batches = fields.List(fields.Nested(BatchShape))
    count = fields.Integer()


class CancelledBatch(BatchShape):
    """A batch after it was cancelled."""

    cancelled = fields.Integer(metadata={"description": "Messages that this request cancelled."})
