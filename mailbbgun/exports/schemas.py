"""Shapes of the questions of exports: the filters of the lists, and the form of the file."""

from typing import Any

from marshmallow import Schema, fields, validate

from mailbbgun.core.addresses import LONGEST
from mailbbgun.events.kinds import Kind
from mailbbgun.events.reading import Filters as EventFilters
from mailbbgun.exports.writing import CSV, NDJSON
from mailbbgun.http.bad_input import EXAMPLE_ID
from mailbbgun.http.schemas import Texts, Time
from mailbbgun.messages.schemas import LONGEST_PART, LONGEST_TAG, AddressQuery, Choice, Filters
from mailbbgun.statistics.schemas import Asked


def _form() -> fields.Field[Any]:
    return Choice(
        load_default=None,
        validate=validate.OneOf([CSV, NDJSON]),
        metadata={"description": "Form of the file. By default the header Accept decides; NDJSON if it says nothing."},
    )


class MessagesExport(Filters):
    """Which messages to export."""

    class Meta:
        """An export has no pages."""

        exclude = ("limit", "offset", "after")

    format = _form()


class EventsExport(Schema):
    """Which events to export."""

    kind = Texts(
        load_default=list,
        validate=validate.ContainsOnly([kind.value for kind in Kind]),
        metadata={"description": "Those of this kind, or of any of several: kind=bounced&kind=expired."},
    )
    message_id = fields.UUID(
        load_default=None, metadata={"description": "Those of this message.", "example": EXAMPLE_ID}
    )
    recipient = AddressQuery(
        load_default=None,
        validate=validate.Length(1, LONGEST),
        metadata={"description": "Those of this recipient; a + is a plus.", "example": "ann@example.com"},
    )
    tag = fields.String(
        load_default=None,
        validate=validate.Length(1, LONGEST_TAG),
        metadata={"description": "Those of messages with this tag.", "example": "invoice"},
    )
    account = fields.String(
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "Those of attempts through the SMTP account of this name.", "example": "main"},
    )
    begin = Time(load_default=None, data_key="from", metadata={"description": "At this moment or later."})
    end = Time(load_default=None, data_key="to", metadata={"description": "Before this moment."})
    text = fields.String(
        load_default=None,
        validate=validate.Length(1, LONGEST_PART),
        metadata={"description": "Part of the subject or of what the event tells, in any case."},
    )
    format = _form()


class StatisticsExport(Asked):
    """Which figures to export."""

    format = _form()


def event_filters(asked: dict[str, Any]) -> EventFilters:
    """Return the filters that a question names."""
    recipient = asked["recipient"]
    return EventFilters(
        kinds=frozenset(Kind(one) for one in asked["kind"]),
        message_id=asked["message_id"],
        recipient=None if recipient is None else recipient.lower(),
        tag=asked["tag"],
        account=asked["account"],
        begin=asked["begin"],
        end=asked["end"],
        text=asked["text"],
    )
