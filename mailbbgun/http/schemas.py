"""Fields and schemas of requests that several rooms use: times, lists of texts, pages, idempotency."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import marshmallow
from marshmallow import fields, validate

from mailbbgun.core.clock import rfc3339
from mailbbgun.database.idempotency import HEADER
from mailbbgun.http.bad_input import EXAMPLE_ID

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

#: Unix seconds, as a text.
UNIX = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
#: The forms of RFC 2822 §3.3, and with a zone's name that RFC 2822 §4.3 knows.
RFC2822 = re.compile(
    r"([A-Z][a-z]{2}, )?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}(:[0-9]{2})? "
    r"([+-][0-9]{4}|UTC?|GMT|[ECMP][SD]T)( \([A-Za-z ]{1,40}\))?"
)

#: Headers of responses, for the OpenAPI document.
REPLAYED = {
    "Idempotent-Replayed": {
        "description": "true: this is the first answer again.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
LOCATION = {"Location": {"description": "Where it is.", "schema": {"type": "string", "format": "uri-reference"}}}


class Nothing(marshmallow.Schema):
    """The body of a request that needs none."""


class Time(fields.DateTime):
    """A time of RFC 3339. Written in UTC, as ``2026-01-01T12:00:00.000Z``.

    Read with any offset. A date alone is its midnight in UTC.
    """

    expected = "a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date"

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else rfc3339(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        # In a query an unescaped + arrives as a blank.
        text = value.replace(" ", "+") if isinstance(value, str) else ""
        try:
            if DATE.fullmatch(text):
                return datetime.fromisoformat(f"{text}T00:00:00Z")
            if RFC3339.fullmatch(text):
                return _in_utc(datetime.fromisoformat(text.upper()))
        except ValueError:
            pass  # the 30th of February
        raise self.make_error("validator_failed")


class Moment(Time):
    """A time as in RFC 3339 or RFC 2822, or in Unix seconds: as applications have it at hand.

    A time of RFC 2822 without a zone (``-0000``) is in UTC.
    """

    expected = (
        "a time as in RFC 3339 (2026-01-31T12:00:00Z) or RFC 2822 (Sat, 31 Jan 2026 12:00:00 +0000), or Unix seconds"
    )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if isinstance(value, str):
            value = value.strip()
        if isinstance(value, str) and not UNIX.fullmatch(value):
            try:
                return super()._deserialize(value, attr, data, **kwargs)
            except marshmallow.ValidationError:
                if not RFC2822.fullmatch(value):
                    raise
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.make_error("validator_failed")
        try:
            if isinstance(value, str) and not UNIX.fullmatch(value):
                found = parsedate_to_datetime(value)
                return _in_utc(found if found.tzinfo else found.replace(tzinfo=UTC))
            return datetime.fromtimestamp(float(value), UTC)
        except (ValueError, OverflowError, OSError) as error:  # the 30th of February; milliseconds
            raise self.make_error("validator_failed") from error


def _in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; the first or last one there is if that is beyond them."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)


class Count(fields.Integer):
    """A number in a query, written in ASCII digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class Page(marshmallow.Schema):
    """The query of every list."""

    limit = Count(
        load_default=10,
        validate=validate.Range(0, 1000),
        metadata={"description": "At most so many; 0 gives only the count."},
    )
    offset = Count(
        load_default=0,
        validate=validate.Range(0, 10**9),
        metadata={"description": "Skip so many; deep lists go faster by `after`."},
    )
    after = fields.UUID(
        load_default=None,
        metadata={"description": "Go on after this id: the last one of the page before.", "example": EXAMPLE_ID},
    )


class Repeatable(marshmallow.Schema):
    """The headers of a request that creates something and that a client may safely repeat."""

    key = fields.String(
        data_key=HEADER,
        load_default=None,
        metadata={
            "description": "Repeat a request with its key and body and you get its first answer again, "
            "for 24 hours; nothing is made twice."
        },
    )


class Texts(fields.Field[list[str]]):
    """One string or a list of strings."""

    repeatable = True
    expected = "a string or a list of strings"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.make_error("validator_failed")
        return texts


class Flag(fields.Boolean):
    """``true`` or ``false``; no other value is accepted."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value
