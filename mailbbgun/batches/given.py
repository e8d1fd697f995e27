"""Makes a batch of the body of a request, and checks its size. Each fault names the field."""

from collections.abc import Mapping
from typing import Any

from mailbbgun.accept.fields import TO, parted
from mailbbgun.batches.batching import ALL_OR_NOTHING, GivenBatch
from mailbbgun.core.errors import InvalidInput
from mailbbgun.settings.settings import Settings

RECIPIENTS, MESSAGES, MODE = "recipients", "messages", "mode"
_INVALID = "Some fields are not valid."


def given_batch(parts: Mapping[str, Any], body: Mapping[str, Any], key: str | None, settings: Settings) -> GivenBatch:
    """Return the batch of a request. ``parts`` is what the schema made of the ``body``.

    Raises :class:`InvalidInput` if it has neither recipients nor messages, both, or too many.
    """
    recipients, messages = parts.get(RECIPIENTS), parts.get(MESSAGES)
    common = dict(parts["common"])
    if recipients is not None and messages is not None:
        raise InvalidInput(_INVALID, fields={MESSAGES: ["Give `recipients` or `messages`, not both."]})
    items, name = (recipients, RECIPIENTS) if recipients is not None else (messages, MESSAGES)
    if not items:
        why = "Needed: a list with the recipients of one content, or `messages`, a list of whole messages."
        raise InvalidInput(_INVALID, fields={RECIPIENTS: [why]})
    if len(items) > settings.MAX_BULK_EMAILS:
        most = f"Has {len(items)} items, and {settings.MAX_BULK_EMAILS} are the most (MAX_BULK_EMAILS)."
        raise InvalidInput(_INVALID, fields={name: [most]})
    if messages is not None and parts.get("variables"):
        raise InvalidInput(_INVALID, fields={"variables": ["Is for `recipients`; whole messages have their own."]})
    if recipients is not None and not {"subject", "template"} & common.keys():
        raise InvalidInput(_INVALID, fields={"subject": ["`subject` is required; it may be empty."]})
    if recipients is not None and "message_id_header" in common:
        why = "Each mail has a Message-ID of its own; give it in `messages`, or leave it out."
        raise InvalidInput(_INVALID, fields={"message_id_header": [why]})
    shared, options = parted({**common, "subject": common.get("subject", ""), TO: ()})
    return GivenBatch(
        common=shared,
        options=options.with_key(key),
        recipients=recipients or (),
        messages=messages or (),
        defaults={name: value for name, value in body.items() if name not in (RECIPIENTS, MESSAGES, MODE)},
        variables=parts.get("variables") or {},
        mode=parts.get(MODE, ALL_OR_NOTHING),
        asked=body,
    )
