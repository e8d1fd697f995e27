"""The fields of a form as the JSON object that a schema loads. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import marshmallow
from marshmallow import fields

from mailbbgun.core.errors import InvalidInput, MalformedForm
from mailbbgun.http.bad_input import name_of, shown
from mailbbgun.http.strict_json import UNSTORABLE, parse_object, parse_value

#: The field that may have the whole JSON object instead of fields of their own.
WHOLE = "message"

#: The attribute of a schema that takes forms, too.
TAKES_FORMS = "takes_forms"

#: The attribute of fields that take a text or a list of texts.
REPEATABLE = "repeatable"


def as_object(pairs: Sequence[tuple[str, str]], schema: marshmallow.Schema) -> dict[str, Any]:
    """Return what a form says, as a client would have said it in JSON.

    A text is a text. A list of texts is a field that is repeated, or given once. Objects, numbers and
    booleans are written as in JSON. A single field :data:`WHOLE` has everything as one JSON object.

    Raises :class:`InvalidInput` for a field that is given too often or is not valid JSON, and
    :class:`MalformedForm`.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    if WHOLE in given:
        return _whole(given)
    known = {field.data_key or name: field for name, field in schema.fields.items()}
    wrong: dict[str, list[str]] = {}
    said = {}
    for name, values in given.items():
        try:
            said[name] = _value(name, values, known.get(name))
        except InvalidInput as error:
            wrong[name] = [error.message]
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)
    return said


def _whole(given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    if len(given) > 1 or len(given[WHOLE]) > 1:
        raise MalformedForm(
            f"`{WHOLE}` has the whole message as JSON, so nothing but files may be beside it; "
            f"there are {len(given[WHOLE])} of it, and {len(given) - 1} other fields."
        )
    return parse_object(given[WHOLE][0].encode())


def _value(name: str, values: Sequence[str], field: fields.Field[Any] | None) -> Any:
    if any(UNSTORABLE.search(value) for value in values):
        raise InvalidInput("Has a NUL character, which cannot be kept.")
    if hasattr(field, REPEATABLE) or (isinstance(field, fields.List) and isinstance(field.inner, fields.String)):
        return list(values)
    if len(values) > 1:
        raise InvalidInput(f"{name_of(name)} is given {len(values)} times; give it once.")
    value = values[0]
    if field is None or isinstance(field, fields.String) or not value.strip():
        return value
    return _json(value)


def _json(text: str) -> Any:
    """Return the value of a field that is no text; if it is not JSON, the text, about which the schema says more."""
    try:
        return parse_value(text.encode())
    except InvalidInput as error:
        if text.lstrip()[:1] in ("{", "["):
            raise InvalidInput(f"{shown(text)}: {error.message.replace('The body', 'It', 1)}") from error
        return text
