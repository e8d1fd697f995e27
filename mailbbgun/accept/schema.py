"""The JSON schema of the body of ``POST /messages``, made of the fields that ``fields.py`` declares."""

from collections.abc import Collection, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validates_schema

from mailbbgun.accept.checks import NEEDS_RECIPIENT
from mailbbgun.accept.fields import BCC, CC, SHAPES, TO, Fields, Options, name_in_json, parted

#: Fields that count as not given if they are blank. ``to`` is not among them: a blank ``to`` is a fault of
#: the program that filled it in. Nor is ``subject``: it may be blank.
OPTIONAL = frozenset({"message_id", *map(name_in_json, SHAPES)}) - {TO, "subject"}


class _NewMessage(Schema):
    """The rules that concern several fields. The fields themselves are added below."""

    takes_forms = True

    old_message_id = fields.String(
        data_key="message_id", metadata={"description": "The old name of message_id_header.", "deprecated": True}
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let every optional field be null: many clients send null for what they do not give."""
        field_obj.allow_none = not field_obj.required and field_name != "subject"

    @pre_load
    def drop_blanks(self, data: Any, **_: Any) -> Any:
        """Leave out blank fields."""
        return without_blanks(data, OPTIONAL) if isinstance(data, dict) else data

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def require_recipient(self, _data: Any, original: Any, **_: Any) -> None:
        """Require a recipient, also if other fields are wrong."""
        said = without_blanks(original, OPTIONAL)
        if all(said.get(name) is None for name in (TO, CC, BCC)):
            raise ValidationError(NEEDS_RECIPIENT, TO)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def require_subject(self, _data: Any, original: Any, **_: Any) -> None:
        """Require a subject, also if other fields are wrong. A template has its own."""
        if "subject" not in original and without_blanks(original, OPTIONAL).get("template") is None:
            raise ValidationError(fields.Field.default_error_messages["required"], "subject")

    @post_load
    def submission(self, data: dict[str, Any], **_: Any) -> tuple[Fields, Options]:
        """Return a submission and options.

        Raises :class:`ValidationError` if both names of the Message-ID header are given and differ.
        """
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


#: A message to send. Null and blank values count as not given, except for a blank subject.
NewMessage = _NewMessage.from_dict(dict(SHAPES), name="NewMessage")


def without_blanks(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a request's fields without the blank ones among ``names``.

    Many clients send a blank value for what they do not give. Blank are null, text of nothing but
    white space, an empty object, and a list of nothing but blank texts. Blank texts are also taken
    out of lists, and blank or null values out of ``headers``.
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
