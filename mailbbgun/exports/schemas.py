"""Shapes of the questions of exports: the filters of the lists, and the form of the file."""

from typing import Any

from marshmallow import fields, validate, validates_schema

from mailbbgun.events.reading import EventFilters
from mailbbgun.events.schemas import LogQuery
from mailbbgun.exports.writing import CSV, NDJSON
from mailbbgun.messages.schemas import Choice, Filters
from mailbbgun.statistics.schemas import StatisticsQuery


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


class EventsExport(LogQuery):
    """Which events to export."""

    class Meta:
        """An export has no pages, and does not wait."""

        exclude = ("limit", "after", "before", "cursor", "wait")

    format = _form()

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        """Check nothing more: the rules of ``LogQuery`` are about its pages."""


class StatisticsExport(StatisticsQuery):
    """Which figures to export."""

    format = _form()


def event_filters(asked: dict[str, Any]) -> EventFilters:
    """Return the filters that a question names, as ``GET /events`` does."""
    given = {name: asked[name] for name in EventFilters._fields if asked[name] is not None}
    if "recipient" in given:
        given["recipient"] = given["recipient"].strip().lower()
    return EventFilters(**given)
