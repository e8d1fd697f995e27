"""What the HTTP API and the command line take and show of alerts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from mailbbgun.alerts.kinds import AlertKind
from mailbbgun.alerts.state import IncidentState
from mailbbgun.http.schemas import Moment, Page, Time

#: Mail addresses of a rule, at most.
MOST_EMAILS = 20
#: Seconds of the longest duration of a rule, and of its longest window.
LONGEST, LONGEST_WINDOW = 86_400, 86_400
#: Minutes of the longest silence: a year.
LONGEST_SILENCE = 525_600

KINDS = [kind.value for kind in AlertKind]
STATES = [state.value for state in IncidentState]
#: States of an incident that is listed.
INCIDENT_STATES = (IncidentState.PENDING.value, IncidentState.FIRING.value, IncidentState.RESOLVING.value, "resolved")


def _one_line(text: str) -> None:
    if not text.isprintable() or text != text.strip():
        raise ValidationError("Must be one line without control characters, and no blank at either end.")


def _seconds(name: str, most: int, sentence: str, least: int = 0) -> fields.Integer:
    return fields.Integer(
        strict=True, data_key=name, validate=validate.Range(least, most), metadata={"description": sentence}
    )


def _number(sentence: str) -> fields.Float:
    return fields.Float(validate=validate.Range(0, min_inclusive=False), metadata={"description": sentence})


class AlertChange(Schema):
    """The fields of an alert that can be changed. Those that are not given stay."""

    name = fields.String(
        validate=[validate.Length(1, 64), _one_line],
        metadata={"description": "What notices call it, unique in your tenant.", "example": "bounces"},
    )
    threshold = _number("It fires when its figure is this or more.")
    resolve_threshold = _number("It is resolved when its figure is below this; by default the threshold.")
    for_seconds = _seconds("for", LONGEST, "Seconds that the figure must stay there before it fires; by default 60.")
    resolve_seconds = _seconds(
        "resolve_for", LONGEST, "Seconds that the figure must be back before it is resolved; by default 60."
    )
    window_seconds = _seconds(
        "window", LONGEST_WINDOW, "Seconds that the figure is about, where it is about a time. To the minute.", 60
    )
    least = fields.Integer(
        strict=True,
        validate=validate.Range(0, 1_000_000_000),
        metadata={"description": "Fewer mails than this say nothing, where the figure is about mails."},
    )
    group_seconds = _seconds(
        "group", 3600, "Seconds that a notice waits, to tell of other accounts or machines as well; by default 0."
    )
    emails = fields.List(
        fields.String(validate=validate.Length(max=254)),
        validate=validate.Length(max=MOST_EMAILS),
        metadata={"description": "Who gets notices by mail.", "example": ["ops@example.com"]},
    )
    slack_channel = fields.String(
        allow_none=True,
        validate=[validate.Length(1, 80), _one_line],
        metadata={
            "description": "Where notices go in Slack, by your default Slack account; null: nowhere.",
            "example": "#ops",
        },
    )
    webhook_url = fields.String(
        allow_none=True,
        validate=validate.Length(1, 2000),
        metadata={"description": "Where notices are sent by POST; null: nowhere.", "example": "https://example.com/a"},
    )
    enabled = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "Whether it is watched; by default it is."}
    )


class NewAlert(AlertChange):
    """The body of a request to add an alert. What is not given has a default by the kind."""

    name = fields.String(
        required=True,
        validate=[validate.Length(1, 64), _one_line],
        metadata={"description": "What notices call it, unique in your tenant.", "example": "bounces"},
    )
    kind = fields.String(
        required=True,
        validate=validate.OneOf(KINDS),
        metadata={"description": "What it watches.", "example": "failure_rate"},
    )
    all_tenants = fields.Boolean(
        truthy={True},
        falsy={False},
        metadata={"description": "Whether it is about all tenants; this needs the scope admin. By default false."},
    )


class AlertShape(Schema):
    """An alert: a rule, and its state."""

    id = fields.UUID()
    name = fields.String()
    kind = fields.String(validate=validate.OneOf(KINDS))
    all_tenants = fields.Boolean()
    state = fields.String(
        validate=validate.OneOf(STATES),
        metadata={"description": "pending: its figure is beyond the threshold, but not for long enough."},
    )
    unit = fields.String(metadata={"description": "The unit of its figure and thresholds.", "example": "%"})
    threshold = fields.Float()
    resolve_threshold = fields.Float()
    for_seconds = fields.Integer(data_key="for")
    resolve_seconds = fields.Integer(data_key="resolve_for")
    window_seconds = fields.Integer(data_key="window")
    least = fields.Integer()
    group_seconds = fields.Integer(data_key="group")
    emails = fields.List(fields.String())
    slack_channel = fields.String(allow_none=True)
    webhook_url = fields.String(allow_none=True)
    enabled = fields.Boolean()
    silenced_until = Time(allow_none=True, metadata={"description": "No notices are sent until then."})
    created_at = Time()
    updated_at = Time()


class Alerts(Schema):
    """A page of alerts, newest first."""

    alerts = fields.List(fields.Nested(AlertShape))
    count = fields.Integer()


class Silence(Schema):
    """The body of a request to silence an alert: one of the two fields, or neither for an hour."""

    minutes = fields.Integer(
        strict=True,
        validate=validate.Range(0, LONGEST_SILENCE),
        metadata={"description": "For how long; 0 ends a silence. By default 60."},
    )
    until = Moment(metadata={"description": "Or until when.", "example": "2030-01-01T08:00:00Z"})

    @validates_schema
    def one_of_them(self, data: Mapping[str, Any], **_: Any) -> None:
        """Refuse both fields at once, and an end that is too far away."""
        if "minutes" in data and "until" in data:
            raise ValidationError("Give minutes or until, not both.", "until")
        if "until" in data and data["until"] > datetime.now(UTC) + timedelta(minutes=LONGEST_SILENCE):
            raise ValidationError("Is more than a year away: disable the alert instead.", "until")


def silent_until(given: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return the end of a silence that :class:`Silence` has read; None: none."""
    until: datetime = given.get("until") or now + timedelta(minutes=given.get("minutes", 60))
    return until if until > now else None


class TestedAlert(Schema):
    """How many notices were made."""

    notices = fields.Integer()


class IncidentQuery(Page):
    """The query of the list of incidents."""

    alert = fields.UUID(load_default=None, metadata={"description": "Only of this alert."})
    state = fields.String(
        load_default=None,
        validate=validate.OneOf(INCIDENT_STATES),
        metadata={"description": "Only those in this state. By default all that have fired."},
    )


class IncidentShape(Schema):
    """One time that an alert's figure was beyond its threshold."""

    id = fields.UUID()
    alert_id = fields.UUID()
    alert = fields.String(metadata={"description": "The alert's name."})
    kind = fields.String(validate=validate.OneOf(KINDS))
    subject = fields.String(metadata={"description": "The account or machine it is about; else empty."})
    state = fields.String(validate=validate.OneOf(INCIDENT_STATES))
    value = fields.Float(allow_none=True, metadata={"description": "The figure when it was last looked at."})
    peak = fields.Float(metadata={"description": "The largest figure."})
    detail = fields.String(allow_none=True, metadata={"description": "What more is known."})
    since = Time(metadata={"description": "When the figure was first seen beyond the threshold."})
    fired_at = Time(allow_none=True)
    resolved_at = Time(allow_none=True)


class Incidents(Schema):
    """A page of incidents, newest first."""

    incidents = fields.List(fields.Nested(IncidentShape))
    count = fields.Integer()
