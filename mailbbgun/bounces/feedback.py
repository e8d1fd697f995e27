"""Reads what feedback loops send: the Abuse Reporting Format (RFC 5965), and the JSON of Amazon SES.

https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
"""

import json
from dataclasses import dataclass
from typing import Any

from mailbbgun.bounces import addresses, mime

#: Recipients of a complaint that are read.
MOST_RECIPIENTS = 100


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a complaint says. ``recipients``: whose mail it was, if the loop tells."""

    feedback_type: str
    envelope_id: str | None
    recipients: tuple[str, ...]
    message_id: str | None


def arf(text: str, original: dict[str, list[str]]) -> Complaint:
    """Return what the report in ``text`` says, with the header of the mail that it is about."""
    fields = mime.fields_of(text.strip().replace("\n\n", "\n"))
    told = fields.get("original-rcpt-to", []) + fields.get("removal-recipient", []) + fields.get("x-original-to", [])
    found = [addresses.clean(one) for one in told] or recipients_of(original)
    kept = tuple(dict.fromkeys(filter(None, found)))[:MOST_RECIPIENTS]
    feedback_type = (fields.get("feedback-type", ["abuse"])[0].strip().lower() or "abuse")[:40]
    envelope_id = next(iter(fields.get("original-envelope-id", ())), None)
    message_id = next(iter(fields.get("message-id", ()) or original.get("message-id", ())), None)
    return Complaint(feedback_type, envelope_id and envelope_id[:200], kept, message_id)


def recipients_of(original: dict[str, list[str]]) -> list[str]:
    """Return whose mail it was, by its header."""
    names = ("x-hmxmroriginalrecipient", "to", "delivered-to")
    return next((found for name in names if (found := addressed(original, name))), [])


def addressed(headers: dict[str, list[str]], name: str) -> list[str]:
    """Return the addresses in a header's fields of this name."""
    return [one for value in headers.get(name, ())[:10] for one in addresses.all_in(mime.decoded(value))]


@dataclass(frozen=True, slots=True)
class SESNotification:
    """What a notification of Amazon SES says.

    ``kind``: bounce, complaint or delivery. ``recipients``: each address with its status and diagnostic.
    """

    kind: str
    recipients: tuple[tuple[str, str, str], ...]
    feedback_type: str | None


def ses(text: str) -> SESNotification | None:
    """Return what a notification of Amazon SES says; None if the text is none."""
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
    found = tuple(filter(None, map(_of_json, given[:MOST_RECIPIENTS]))) if isinstance(given, list) else ()
    feedback_type = str(body.get("complaintFeedbackType") or "abuse")[:40] if kind == "complaint" else None
    return SESNotification(kind, found, feedback_type) if found else None


def _of_json(given: Any) -> tuple[str, str, str] | None:
    if isinstance(given, str):
        given = {"emailAddress": given}
    if not isinstance(given, dict) or not (address := addresses.clean(str(given.get("emailAddress")))):
        return None
    return address, str(given.get("status") or "")[:20], str(given.get("diagnosticCode") or "")[:2_000]
