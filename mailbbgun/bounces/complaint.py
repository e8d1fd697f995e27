"""Reads complaints of feedback loops in the Abuse Reporting Format (RFC 5965)."""

from dataclasses import dataclass

from mailbbgun.bounces import addresses, mime

#: Recipients of a complaint that are read.
MOST_RECIPIENTS = 20


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a complaint says. ``recipients``: whose mail it was, if the loop tells."""

    feedback_type: str
    envelope_id: str | None
    recipients: tuple[str, ...]
    message_id: str | None


def parse(text: str, original: dict[str, list[str]]) -> Complaint:
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
