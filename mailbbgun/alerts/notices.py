"""What people get: the texts of notices. Pure, and the same each time for the same notice.

A notice tells of one change of a rule, for one subject or several.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from mailbbgun.alerts.kinds import ABOUT, AlertKind, in_words, shown
from mailbbgun.alerts.models import Alert, Incident, Notice
from mailbbgun.alerts.state import Change
from mailbbgun.core.clock import rfc3339

#: What a notice is about, besides a change: somebody tries the rule's channels out.
TEST = "test"
#: Subjects that a notice names.
MOST_NAMED = 50
#: Characters of a detail, which may be what another server said.
DETAIL_SIZE = 300

#: The field of a message's metadata that says which notice it is.
MARK = "alert_notice"


class NoticeText(NamedTuple):
    """The texts of a notice."""

    subject: str
    text: str
    level: str  # info, warning, error or critical, as Slack messages have


def message_id(change_id: UUID | str, hostname: str) -> str:
    """Return the Message-ID header of the mail that tells of a change."""
    return f"<alert.{change_id}@{hostname}>"


def is_ours(metadata: Mapping[str, Any] | None) -> bool:
    """Return whether a message is a notice. These are not counted: they would end what they tell of."""
    return metadata is not None and MARK in metadata


def item(incident: Incident, change: Change) -> dict[str, Any]:
    """Return what a notice tells of an incident, as JSON."""
    fired, resolved = incident.fired_at, incident.resolved_at
    return {
        "incident_id": str(incident.id),
        "subject": incident.subject,
        "value": incident.value,
        "peak": incident.peak,
        "detail": (incident.detail or "")[:DETAIL_SIZE] or None,
        "since": rfc3339(incident.since),
        "fired_at": rfc3339(fired) if fired else None,
        "resolved_at": rfc3339(resolved) if resolved and change is Change.RESOLVED else None,
    }


def words(alert: Alert, notice: Notice, public_url: str) -> NoticeText:
    """Return the texts of a notice."""
    kind = AlertKind(alert.kind)
    about = ABOUT[kind]
    figure = about.figure.format(window=in_words(alert.window_seconds))
    items = notice.items
    whose = _subjects(items)
    if notice.about == TEST:
        lines = [f"This is a test of the alert {alert.name}. Nothing is wrong.", "", f"It watches {figure}."]
        return NoticeText(f"[test] {alert.name}", _joined(lines, alert, public_url, None), "info")
    fired = notice.about == Change.FIRED
    head = "firing" if fired else "resolved"
    number = f": {shown(items[0]['value'], kind)}" if fired and len(items) == 1 else ""
    lines = [f"The alert {alert.name} is {head}.", ""]
    lines += [f"It watches {figure}. Its threshold is {shown(alert.threshold, kind)}.", ""]
    lines += [_line(one, kind, fired=fired) for one in items[:MOST_NAMED]]
    if len(items) > MOST_NAMED:
        lines.append(f"- and {len(items) - MOST_NAMED} more")
    subject = f"[{head}] {alert.name}{f' ({whose})' if whose else ''}{number}"
    return NoticeText(
        subject, _joined(lines, alert, public_url, about.look if fired else None), "error" if fired else "info"
    )


def payload(alert: Alert, notice: Notice, public_url: str) -> dict[str, Any]:
    """Return the body for the rule's URL."""
    told = words(alert, notice, public_url)
    return {
        "type": f"alert.{notice.about}",
        "timestamp": rfc3339(notice.created_at),
        "data": {
            "alert_id": str(alert.id),
            "alert": alert.name,
            "kind": alert.kind,
            "threshold": alert.threshold,
            "unit": ABOUT[AlertKind(alert.kind)].unit,
            "summary": told.subject,
            "text": told.text,
            "incidents": notice.items,
        },
    }


def thread(notice: Notice, hostname: str) -> Mapping[str, str]:
    """Return the headers by which mail programs show a notice below those that it answers (RFC 5322 §3.6.4)."""
    answered = [message_id(one, hostname) for one in notice.answers]
    if not answered:
        return {}
    return {"In-Reply-To": answered[0], "References": " ".join(answered)}


def event_data(alert: Alert, incident: Incident, *, silenced: bool) -> dict[str, Any]:
    """Return the data of the event that an incident began or ended."""
    return {
        "alert_id": str(alert.id),
        "alert": alert.name,
        "incident_id": str(incident.id),
        "watched": alert.kind,
        "subject": incident.subject or None,
        "value": incident.value,
        "threshold": alert.threshold,
        "unit": ABOUT[AlertKind(alert.kind)].unit,
        "detail": None if incident.resolved_at else (incident.detail or "")[:DETAIL_SIZE] or None,
        "since": rfc3339(incident.since),
        "silenced": silenced or None,
    }


def _subjects(items: Sequence[Mapping[str, Any]]) -> str:
    named = [one["subject"] for one in items if one["subject"]]
    return f"{named[0]} and {len(named) - 1} more" if len(named) > 1 else "".join(named)


def _line(one: Mapping[str, Any], kind: AlertKind, *, fired: bool) -> str:
    subject = f"{one['subject']}: " if one["subject"] else ""
    detail = f" ({one['detail']})" if one["detail"] else ""
    if fired:
        return f"- {subject}{shown(one['value'], kind)} since {_moment(one['since'])}{detail}"
    return (
        f"- {subject}from {_moment(one['since'])} to {_moment(one['resolved_at'])}, at most {shown(one['peak'], kind)}"
    )


def _moment(shown_time: str) -> str:
    return f"{datetime.fromisoformat(shown_time):%Y-%m-%d %H:%M:%S} UTC"


def _joined(lines: list[str], alert: Alert, public_url: str, look: str | None) -> str:
    more = [f"Look at: {look}"] if look else []
    if public_url:
        more.append(f"Incidents: {public_url.rstrip('/')}/alerts/incidents?alert={alert.id}")
    if look:
        more.append(f"Silence it for an hour: POST /alerts/{alert.id}/silence")
    return "\n".join([*lines, *([""] if more else []), *more]) + "\n"
