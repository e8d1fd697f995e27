"""Reads the notifications that Amazon SES sends by mail: JSON, with words of the mailing service after it.

https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
"""

import json
from dataclasses import dataclass
from typing import Any

from mailbbgun.bounces import addresses

#: Recipients of a notification that are read.
MOST_RECIPIENTS = 100


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notification says. ``kind``: bounce, complaint or delivery; each recipient with status and diagnostic."""

    kind: str
    recipients: tuple[tuple[str, str, str], ...]
    feedback_type: str | None


def parse(text: str) -> Notification | None:
    """Return what a notification says; None if the text is none."""
    start = text.lstrip()[:200]
    if not (start.startswith("{") and '"notificationType"' in start):
        return None
    try:
        told, _ = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    kind = str(told.get("notificationType", "")).lower()
    body = told.get(kind)
    if not isinstance(body, dict):
        return None
    names = {"bounce": "bouncedRecipients", "complaint": "complainedRecipients", "delivery": "recipients"}
    given = body.get(names.get(kind, ""))
    found = tuple(filter(None, map(_recipient, given[:MOST_RECIPIENTS]))) if isinstance(given, list) else ()
    feedback_type = str(body.get("complaintFeedbackType") or "abuse")[:40] if kind == "complaint" else None
    return Notification(kind, found, feedback_type) if found else None


def _recipient(given: Any) -> tuple[str, str, str] | None:
    if isinstance(given, str):
        given = {"emailAddress": given}
    if not isinstance(given, dict) or not (address := addresses.clean(str(given.get("emailAddress")))):
        return None
    return address, str(given.get("status") or "")[:20], str(given.get("diagnosticCode") or "")[:2_000]
