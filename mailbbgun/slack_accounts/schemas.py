"""What the HTTP API takes and shows of Slack accounts. No answer has a token or a URL."""

import re

from marshmallow import Schema, ValidationError, fields, validate

from mailbbgun.http.bad_input import SECRET
from mailbbgun.http.schemas import Flag, Time
from mailbbgun.slack_accounts.edit import KINDS

_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>]{1,64}")
#: Ids of public and private channels, direct messages and people; names of channels; people by name.
CHANNEL = re.compile(r"[CGDUW][A-Z0-9]{2,20}|#?[^\W_][\w.-]{0,79}|@[\w.-]{1,80}")


def _name(text: str) -> None:
    if not _NAME.fullmatch(text) or text != text.strip():
        raise ValidationError("Must be 1 to 64 characters on one line, without <, > and blanks at its ends.")


def channel(text: str) -> None:
    """Raise ``ValidationError`` for a text that is no channel of Slack."""
    if not CHANNEL.fullmatch(text):
        raise ValidationError(
            f"{text[:100]!r} is no channel: give an id like C024BE91L, a name like #alerts, or a person like @ann."
        )


def _token(text: str) -> None:
    if not re.fullmatch(r"xox[bp]-[!-~]{1,490}", text):
        raise ValidationError("A bot token begins with xoxb-, as Slack shows it under OAuth & Permissions.")


class SlackAccountChange(Schema):
    """The body of a request to change an account. Fields that are not given keep their values."""

    name = fields.String(
        validate=_name, metadata={"description": "The name of the account, unique in your tenant.", "example": "ops"}
    )
    bot_token = fields.String(
        load_only=True,
        validate=_token,
        metadata={
            "description": "The token of a bot with the scope chat:write. Stored encrypted, and never shown.",
            "example": "xoxb-…",
            **SECRET,
        },
    )
    webhook_url = fields.String(
        load_only=True,
        validate=validate.Length(1, 500),
        metadata={
            "description": "The URL of an incoming webhook, instead of bot_token: it posts to one channel, and knows "
            "no threads. Stored encrypted, and never shown.",
            "example": "https://hooks.slack.com/services/T…/B…/…",
            **SECRET,
        },
    )
    default_channel = fields.String(
        allow_none=True,
        validate=channel,
        metadata={"description": "Where messages go that name no channel; null: they must.", "example": "#alerts"},
    )
    is_default = Flag(
        metadata={"description": "Messages that name no account go through this one. The first is, unless it says no."}
    )
    enabled = Flag(metadata={"description": "Whether messages leave through it; the others wait. true by default."})


class NewSlackAccount(SlackAccountChange):
    """The body of a request to add an account."""

    name = fields.String(
        required=True,
        validate=_name,
        metadata={"description": "The name of the account, unique in your tenant.", "example": "ops"},
    )


class SlackAccountShape(Schema):
    """An account."""

    id = fields.UUID()
    name = fields.String()
    kind = fields.String(validate=validate.OneOf(KINDS), metadata={"description": "What its secret is."})
    secret = fields.String(
        attribute="secret_shown", metadata={"description": "The ends of its secret.", "example": "xoxb-…1a2b"}
    )
    default_channel = fields.String(allow_none=True)
    is_default = fields.Boolean()
    enabled = fields.Boolean()
    created_at = Time()
    updated_at = Time()


class SlackAccounts(Schema):
    """A page of accounts, newest first."""

    slack_accounts = fields.List(fields.Nested(SlackAccountShape))
    count = fields.Integer(metadata={"description": "How many you have in all."})


class SlackTestResult(Schema):
    """What Slack says of an account. Nothing is posted."""

    ok = fields.Boolean()
    error = fields.String(allow_none=True, metadata={"description": "null if it works.", "example": "invalid_auth"})
    team = fields.String(allow_none=True, metadata={"description": "The workspace; null for an incoming webhook."})
    user = fields.String(allow_none=True, metadata={"description": "The bot; null for an incoming webhook."})
    seconds = fields.Float(metadata={"description": "How long Slack took."})
