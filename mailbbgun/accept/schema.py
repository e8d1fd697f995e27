"""The body of ``POST /messages``: the schema of what ``fields.py`` declares."""

from collections.abc import Collection, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validates_schema

from mailbbgun.accept.checks import NEEDS_RECIPIENT
from mailbbgun.accept.fields import BCC, CC, SHAPES, TO, Fields, Options, name_in_json, parted

#: Fields that, blank, are as if not given. ``to`` is not: where it is given and blank, whoever fills it in has failed.
#: Nor is ``subject``: a blank one is one.
OPTIONAL = frozenset({"message_id", *map(name_in_json, SHAPES)}) - {TO, "subject"}


class _NewMessage(Schema):
    """What holds for all fields together."""

    old_message_id = fields.String(
        data_key="message_id", metadata={"description": "The old name of message_id_header.", "deprecated": True}
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let every field be null that need not be given: many clients write so what they do not give."""
        field_obj.allow_none = not field_obj.required

    @pre_load
    def said(self, data: Any, **_: Any) -> Any:
        """Leave out what says nothing."""
        return without_blanks(data, OPTIONAL) if isinstance(data, dict) else data

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def somebody(self, _data: Any, original: Any, **_: Any) -> None:
        """Ask for a recipient, besides all else that is wrong."""
        said = without_blanks(original, OPTIONAL)
        if all(said.get(name) is None for name in (TO, CC, BCC)):
            raise ValidationError(NEEDS_RECIPIENT, TO)

    @post_load
    def submission(self, data: dict[str, Any], **_: Any) -> tuple[Fields, Options]:
        """Return what accept takes. Raises :class:`ValidationError` if the Message-ID header is given by both its names, and they differ."""
        given = {name: value for name, value in data.items() if value is not None}
        old = given.pop("old_message_id", None)
        if old is not None and given.setdefault("message_id_header", old) != old:
            raise ValidationError(
                {
                    "message_id_header": [
                        "`message_id` is its old name, and says otherwise; give `message_id_header` alone."
                    ]
                }
            )
        return parted(given)


#: A message to send. Null, and what is blank, stand for what is not given; but a blank subject is one.
NewMessage = _NewMessage.from_dict(dict(SHAPES), name="NewMessage")


def without_blanks(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a request's fields but those of ``names`` that say nothing: they are as if not given. Many clients write so what they lack.

    Nothing is said by null, by text without anything but white space, by an empty object, and by a list of such texts; such texts in a list, and
    such or null in an object of headers, are left out of it.
    """
    said = {}
    for name, value in given.items():
        if name in names:
            if isinstance(value, list):
                value = [entry for entry in value if not _blank(entry)]
            elif name == "headers" and isinstance(value, dict):
                value = {key: entry for key, entry in value.items() if entry is not None and not _blank(entry)}
            if value is None or _blank(value) or value == [] or value == {}:
                continue
        said[name] = value
    return said


def _blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())
