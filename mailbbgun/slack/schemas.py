"""The body of ``POST /slack/messages``. The options are those of a mail."""

from collections.abc import Iterator
from copy import copy
from dataclasses import fields as fields_of
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from mailbbgun.accept.fields import SHAPES, Options
from mailbbgun.slack.layout import LOOKS, MOST_BLOCKS
from mailbbgun.slack.sending import SlackMessage, from_given
from mailbbgun.slack_accounts.schemas import channel

#: Characters of a text, at most. What does not fit into Slack's blocks is cut off.
LONGEST_TEXT = 100_000
#: Fields, and characters of a field's name and value, at most.
MOST_FIELDS, NAME, VALUE = 50, 100, 10_000

_UNSENDABLE = "Has half a surrogate pair, which is no character."


def _channel(text: str) -> None:
    if text.lower() not in ("bounce@simulator", "defer@simulator"):
        channel(text)


def _text(text: str) -> None:
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise ValidationError(_UNSENDABLE)


def _fields(given: dict[str, str]) -> None:
    if len(given) > MOST_FIELDS:
        raise ValidationError(f"Has {len(given)} fields, and {MOST_FIELDS} are the most.")
    for name, value in given.items():
        if not 1 <= len(name) <= NAME or len(value) > VALUE:
            raise ValidationError(f"{name[:40]!r}: names have 1 to {NAME} characters, values up to {VALUE}.")
        _text(name + value)


def _blocks(given: list[dict[str, Any]]) -> None:
    if len(given) > MOST_BLOCKS:
        raise ValidationError(f"Has {len(given)} blocks, and {MOST_BLOCKS} are the most.")
    for place, block in enumerate(given):
        if not isinstance(block.get("type"), str):
            raise ValidationError(f"Block {place} has no type, such as section: see Slack's Block Kit.")


class _NewSlackMessage(Schema):
    """The fields of the message itself. Its options are added below."""

    account = fields.String(
        validate=validate.Length(1, 64),
        metadata={"description": "The name or id of a Slack account; by default the default one.", "example": "ops"},
    )
    channel = fields.String(
        validate=_channel,
        metadata={
            "description": "A channel's id or name, or a person; by default the account's default_channel. An incoming "
            "webhook posts to its own channel. For a test key bounce@simulator and defer@simulator fail.",
            "example": "#alerts",
        },
    )
    text = fields.String(
        validate=[validate.Length(1, LONGEST_TEXT), _text],
        metadata={
            "description": "Text with Slack's mrkdwn, such as *bold*; <, > and & are shown as they are. One of text, "
            "title, fields and blocks is needed.",
            "example": "Disk 91 % full",
        },
    )
    level = fields.String(
        validate=validate.OneOf([*LOOKS]), metadata={"description": "Gives an icon and a colour.", "example": "warning"}
    )
    title = fields.String(
        validate=[validate.Length(1, 1000), _text],
        metadata={"description": "A heading; Slack shows up to 150 characters.", "example": "db1"},
    )
    fields_ = fields.Dict(
        fields.String(),
        fields.String(),
        data_key="fields",
        attribute="fields",
        validate=_fields,
        metadata={"description": "Names and values, in two columns.", "example": {"Host": "db1", "Free": "9 GB"}},
    )
    blocks = fields.List(
        fields.Dict(fields.String()),
        validate=_blocks,
        metadata={
            "description": "Blocks of your own, in Slack's Block Kit, after all else. They are sent as they are.",
            "example": [{"type": "divider"}],
        },
    )
    thread = fields.String(
        validate=validate.Length(1, 60),
        metadata={
            "description": "The id of an earlier message to Slack, in whose thread this one goes, or the ts "
            "by which Slack knows one.",
            "example": "1503435956.000247",
        },
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let every field be null, as in POST /messages."""
        field_obj.allow_none = True

    @validates_schema(skip_on_field_errors=True)
    def require_content(self, data: dict[str, Any], **_: Any) -> None:
        """Require something to show."""
        if not any((data.get(name) or "").strip() for name in ("text", "title")) and not any(
            data.get(name) for name in ("fields", "blocks")
        ):
            raise ValidationError("One of `text`, `title`, `fields` and `blocks` is needed.", "text")

    @post_load
    def parts(self, data: dict[str, Any], **_: Any) -> tuple[SlackMessage, Options]:
        """Return the message, and its options."""
        given = {name: value for name, value in data.items() if value is not None}
        return from_given(given), Options(**{name: given[name] for name in _options() if name in given})


def _options() -> Iterator[str]:
    return (one.name for one in fields_of(Options) if one.name in SHAPES)


#: A message to Slack.
NewSlackMessage: Any = _NewSlackMessage.from_dict(
    {name: copy(SHAPES[name]) for name in _options()}, name="NewSlackMessage"
)
