"""Shapes of the runtime configuration, of restarts and of figures."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load, validate

from mailbbgun.http.schemas import Time
from mailbbgun.runtime.live import FIXED, LIVE, described

SMTPD = "smtpd"


class IfMatch(Schema):
    """The header of a change that must not undo another one's."""

    expected = fields.String(
        data_key="If-Match",
        load_default=None,
        metadata={"description": "The ETag of the configuration that you have read. 412 if it has changed since."},
    )


class SettingShape(Schema):
    """A setting that may be changed while the service runs."""

    value = fields.Raw(metadata={"description": "What every process uses.", "example": 50})
    file_value = fields.Raw(metadata={"description": "What config.py or the environment says.", "example": 100})
    changed_at = Time(allow_none=True, metadata={"description": "null: it has the value of the file."})
    changed_by = fields.UUID(
        allow_none=True,
        metadata={"description": "The id of the API key; null: by a request without a key, or a command."},
    )
    description = fields.String()
    least = fields.Float(allow_none=True, metadata={"description": "The least number that it may have."})
    most = fields.Float(allow_none=True, metadata={"description": "The greatest number that it may have."})


class Configuration(Schema):
    """The settings that may be changed while the service runs."""

    version = fields.Integer(metadata={"description": "Goes up with each change. It is the ETag, too."})
    settings = fields.Dict(fields.String(), fields.Nested(SettingShape))


class _OnlyLive(Schema):
    @pre_load
    def know_fixed_ones(self, given: Any, **_: Any) -> Any:
        """Tell of settings that do not change while programs run how they do."""
        if isinstance(given, Mapping) and (fixed := FIXED.intersection(given)):
            told = "It does not change while programs run: set it in config.py or the environment, and restart them."
            raise ValidationError({name: [told] for name in fixed})
        return given


#: What to change: the name of each setting, and its new value; null: that of the file.
ConfigurationChange = _OnlyLive.from_dict(
    {name: fields.Raw(allow_none=True, metadata={"description": described(name)["doc"]}) for name in LIVE},
    name="ConfigurationChange",
)


class Restart(Schema):
    """What to restart."""

    of = fields.String(required=True, validate=validate.OneOf([SMTPD]), metadata={"example": SMTPD})


class RestartAsked(Schema):
    """What was asked for."""

    of = fields.String(metadata={"example": SMTPD})
    restarts = fields.Integer(metadata={"description": "How often that was asked for by now, this time included."})


class RequestFigures(Schema):
    """What the API has answered since the service was installed."""

    total = fields.Integer()
    successful = fields.Integer(metadata={"description": "Answered with a status below 400."})
    failed = fields.Integer(metadata={"description": "Answered with a status from 400 on."})
    last_at = Time(allow_none=True, metadata={"description": "When a running process last answered one."})


class ServiceStats(Schema):
    """What the service does. All but `in_queue` is counted by the processes of the machine that answers."""

    accepted = fields.Integer(metadata={"description": "Messages that were accepted, by HTTP and SMTP."})
    received = fields.Integer(metadata={"description": "Those of them that other mail servers handed in."})
    sent = fields.Integer(metadata={"description": "Deliveries, one for each recipient, that ended well."})
    in_queue = fields.Integer(metadata={"description": "Messages that are pending now, of all tenants."})
    started_at = Time(metadata={"description": "When the API was started. A reload does not count."})
    uptime_seconds = fields.Integer()
    requests = fields.Nested(RequestFigures)
