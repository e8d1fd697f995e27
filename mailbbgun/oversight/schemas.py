"""The shape of a change of a pending message, and its check."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from mailbbgun.accept.checks import Wrong, check_options
from mailbbgun.accept.fields import SHAPES, Options
from mailbbgun.core.errors import InvalidInput
from mailbbgun.core.timing import timing
from mailbbgun.settings.settings import Settings

#: The options of a message that may be changed while it is pending.
CHANGEABLE = ("send_at", "useful_until", "ttl", "priority", "tags", "metadata")
#: Those of them that may be null.
NULLABLE = ("send_at", "useful_until")


class _MessageChange(Schema):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let those fields be null whose null has a meaning."""
        field_obj.allow_none = field_name in NULLABLE


#: What to change of a pending message.
MessageChange = _MessageChange.from_dict({name: SHAPES[name] for name in CHANGEABLE}, name="MessageChange")


def checked(wanted: Mapping[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Return the columns of a message to change, with their new values.

    Raises :class:`InvalidInput` with all that is wrong.
    """
    wrong: Wrong = {}
    options = Options(**{name: value for name, value in wanted.items() if value is not None})
    check_options(options, settings, wrong)
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)
    values = dict(wanted)
    send_at, useful_until = timing(options.send_at, options.useful_until, options.ttl, now)
    if "send_at" in values:
        values["send_at"] = send_at
    if values.pop("ttl", None) is not None or "useful_until" in values:
        values["useful_until"] = useful_until
    if "tags" in values:
        values["tags"] = list(dict.fromkeys(values["tags"]))
    return values
