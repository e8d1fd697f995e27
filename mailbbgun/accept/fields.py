"""What goes into accept: a submission, and options. Here every field of a new message is declared, once.

A declaration has the name and type that Python sees, how JSON has the field, the sentence that OpenAPI shows, and the
rule that a value must keep. The schema of ``POST /messages``, the checks, and the columns that options are kept in
follow from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from marshmallow import fields as json
from marshmallow import validate

from mailbbgun.accept import rules
from mailbbgun.accept.rules import Rule

TO, CC, BCC = "to", "cc", "bcc"
DEFAULT_PRIORITY = 5


class Texts(json.Field[list[str]]):
    """One string or a list of strings."""

    expected = "a string or a list of strings"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.make_error("validator_failed")
        return texts


def _given(shape: json.Field[Any], sentence: str, example: Any, rule: Rule | None = None, **default: Any) -> Any:
    """Declare a field: how JSON has it, what OpenAPI says of it, and the rule that its value keeps.

    Pass ``default`` or ``default_factory`` unless it must be given.
    """
    shape.metadata = {**shape.metadata, "description": sentence, "example": example}
    shape.required = not default
    return field(metadata={"json": shape, "rule": rule}, **default)


def _text(sentence: str, example: str, rule: Rule | None = None, name: str | None = None) -> Any:
    return _given(json.String(data_key=name), sentence, example, rule, default=None)


def _addresses(sentence: str, example: Any) -> Any:
    shape = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return _given(Texts(metadata=shape), sentence, example, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A submission to compose, as a client gave it: the types are right, nothing else is known.

    Addresses are as people write them; ``checks.py`` has their rules.
    """

    to: Sequence[str] = _addresses(
        "Recipients: one address, several with commas, or a list; display names are welcome. Needed unless there is cc or bcc.",
        "Ann Lee <ann@example.com>",
    )
    subject: str = _given(
        json.String(),
        "One line. It must be given, and may be empty (RFC 5322 §3.6.5).",
        "Your invoice",
        rules.subject,
    )
    text: str | None = _text("The plain text; this or html is needed.", "Dear Ann, …", rules.body)
    html: str | None = _text("The HTML; with text as well, readers choose.", "<p>Dear Ann, …</p>", rules.body)
    cc: Sequence[str] = _addresses("Recipients who are shown as such.", ["bob@example.com"])
    bcc: Sequence[str] = _addresses("Recipients who are not shown.", ["archive@example.com"])
    sender: str | None = _text("By default the service's own.", "Shop <shop@example.com>", name="from")
    reply_to: Sequence[str] = _addresses("Where answers go.", "help@example.com")
    envelope_from: str | None = _text(
        "Where bounces go: an address that the API key may send as. By default, and where it is from's, the SMTP account's "
        "envelope_from if it has one, else from's.",
        "bounces@example.com",
    )
    headers: Mapping[str, str] = _given(
        json.Dict(json.String(), json.String()),
        "More headers; none that structure the message.",
        {"X-Order": "1234"},
        rules.headers,
        default_factory=dict,
    )
    # Its name here is part of old fingerprints (database/idempotency.py).
    message_id: str | None = _text(
        "The Message-ID header; by default one is made of the message's id.",
        "<1234@example.com>",
        rules.message_id,
        "message_id_header",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A submission whose MIME is written already, and its envelope (RFC 5321 §2.3.1).

    ``mime`` has CRLF line ends, or LF throughout, and no dots stuffed. ``mail_from`` is an address, "" for the null
    sender (RFC 5321 §4.5.5), or None: that of From. ``recipients`` are addresses; none is taken from the header.
    """

    mime: bytes = field(repr=False)
    recipients: Sequence[str]
    mail_from: str | None = None


Submission = Fields | Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller asks for besides, however the message came.

    All but the key are kept with the message, each in the column of ``messages`` that has its name.
    """

    tags: Sequence[str] = _given(
        json.List(json.String()),
        f"At most {rules.MOST_TAGS}, to find messages by.",
        ["invoice"],
        rules.tags,
        default=(),
    )
    metadata: Mapping[str, Any] = _given(
        json.Dict(json.String()),
        "Yours: a flat object of up to 4 KB.",
        {"order": 1234},
        rules.metadata,
        default_factory=dict,
    )
    priority: int = _given(
        json.Integer(strict=True, validate=validate.Range(0, 9)),
        f"0 to 9, 9 first, {DEFAULT_PRIORITY} if not given.",
        5,
        rules.priority,
        default=DEFAULT_PRIORITY,
    )
    idempotency_key: str | None = None  # one key, one message

    def once(self, key: str | None) -> "Options":
        """Return these options with an idempotency key, if there is one."""
        return self if key is None else replace(self, idempotency_key=key)


PLAIN = Options()

#: How JSON has the fields of ``Fields`` and ``Options``, by their names in Python.
SHAPES: Mapping[str, json.Field[Any]] = {
    one.name: one.metadata["json"] for kind in (Fields, Options) for one in fields(kind) if "json" in one.metadata
}

#: Options that are kept with a message.
KEPT = tuple(one.name for one in fields(Options) if one.name != "idempotency_key")


def name_in_json(name: str) -> str:
    """Return what clients call a field."""
    return SHAPES[name].data_key or name


def parted(given: dict[str, Any]) -> tuple[Fields, Options]:
    """Part what a client gave, by names in Python, into a submission and options."""
    kept = {name: given.pop(name) for name in KEPT if name in given}
    return Fields(**given), Options(**kept) if kept else PLAIN
