"""``POST /messages``."""

from collections.abc import Mapping
from typing import Any

from flask import g
from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema

from mailbbgun.accept.accept import Accepted, accept
from mailbbgun.accept.checks import MOST_TAGS, NEEDS_RECIPIENT
from mailbbgun.accept.draft import BCC, CC, DEFAULT_PRIORITY, TO, Submission, without_blanks
from mailbbgun.accept.store import Store
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import InvalidInput
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import PendingResponse, ReadyResponse
from mailbbgun.http.schemas import REPLAYED, Repeatable
from mailbbgun.http.urls import own_base
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import STATUSES
from mailbbgun.services import Services

blueprint = Blueprint("sending", __name__, description="Hand over a message.")


class Texts(fields.Field[list[str]]):
    """One string or a list of strings."""

    expected = "a string or a list of strings"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.make_error("validator_failed")
        return texts


def _addresses(sentence: str, example: Any, **options: Any) -> Texts:
    shape = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return Texts(metadata={"description": sentence, "example": example, **shape}, **options)


class NewMessage(Schema):
    """A message to send. Null, and what is blank, stand for what is not given; but a blank subject is one."""

    to = _addresses(
        "Recipients: one address, several with commas, or a list; display names are welcome. Needed unless there is cc or bcc.",
        "Ann Lee <ann@example.com>",
    )
    subject = fields.String(
        required=True,
        metadata={
            "description": "One line. It must be given, and may be empty (RFC 5322 §3.6.5).",
            "example": "Your invoice",
        },
    )
    text = fields.String(metadata={"description": "The plain text; this or html is needed.", "example": "Dear Ann, …"})
    html = fields.String(metadata={"description": "The HTML; with text as well, readers choose."})
    cc = _addresses("Recipients who are shown as such.", ["bob@example.com"])
    bcc = _addresses("Recipients who are not shown.", ["archive@example.com"])
    sender = fields.String(
        data_key="from", metadata={"description": "By default the service's own.", "example": "Shop <shop@example.com>"}
    )
    reply_to = _addresses("Where answers go.", "help@example.com")
    envelope_from = fields.String(
        metadata={
            "description": "Where bounces go: an address that the API key may send as. By default, and where it is from's, the SMTP account's "
            "envelope_from if it has one, else from's.",
            "example": "bounces@example.com",
        }
    )
    headers = fields.Dict(
        fields.String(),
        fields.String(),
        metadata={"description": "More headers; none that structure the message.", "example": {"X-Order": "1234"}},
    )
    tags = fields.List(
        fields.String(), metadata={"description": f"At most {MOST_TAGS}, to find messages by.", "example": ["invoice"]}
    )
    metadata = fields.Dict(
        fields.String(), metadata={"description": "Yours: a flat object of up to 4 KB.", "example": {"order": 1234}}
    )
    message_id_header = fields.String(
        metadata={
            "description": "The Message-ID header; by default one is made of the message's id.",
            "example": "<1234@example.com>",
        }
    )
    message_id = fields.String(metadata={"description": "The old name of message_id_header.", "deprecated": True})
    priority = fields.Integer(
        strict=True,
        validate=validate.Range(0, 9),
        metadata={"description": f"0 to 9, 9 first, {DEFAULT_PRIORITY} if not given.", "example": 5},
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let every field be null that need not be given: many clients write so what they do not give."""
        field_obj.allow_none = not field_obj.required

    @pre_load
    def said(self, data: Any, **_: Any) -> Any:
        """Leave out what says nothing."""
        return without_blanks(data, OPTIONAL) if isinstance(data, dict) else data

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def somebody(self, _data: Any, original: Any, **_: Any) -> None:
        """Ask for a recipient, besides all else that is wrong."""
        said = without_blanks(original, OPTIONAL)
        if all(said.get(name) is None for name in (TO, CC, BCC)):
            raise ValidationError(NEEDS_RECIPIENT, TO)

    @post_load
    def submission(self, data: dict[str, Any], **_: Any) -> Submission:
        """Return what accept takes. Raises :class:`ValidationError` if the Message-ID header is given by both its names, and they differ."""
        given = {name: value for name, value in data.items() if value is not None}
        header = given.pop("message_id_header", None)
        if header is not None and given.setdefault("message_id", header) != header:
            raise ValidationError(
                {
                    "message_id_header": [
                        "`message_id` is its old name, and says otherwise; give `message_id_header` alone."
                    ]
                }
            )
        return Submission(**given)


OPTIONAL = frozenset(field.data_key or name for name, field in NewMessage().fields.items()) - {TO, "subject"}
"""Fields that, blank, are as if not given.

``to`` is not: where it is given and blank, whoever fills it in has failed. Nor is ``subject``: a blank one is one.
"""


class Answer(Schema):
    """What became of it."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES), metadata={"example": "PENDING"})
    subject = fields.String(required=True)


_HEADERS = {
    "Location": {"description": "The message's address.", "schema": {"type": "string", "format": "uri-reference"}},
    **REPLAYED,
}


@blueprint.route("/messages", methods=["POST"], tags=["messages"])
@blueprint.arguments(NewMessage, example={"to": "ann@example.com", "subject": "Hello", "text": "It works."})
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(
    201, Answer, description="Stored durably; it will be delivered or you can read why not.", headers=_HEADERS
)
@blueprint.alt_response(413, description="Larger than MAX_BODY_SIZE.")
@blueprint.alt_response(415, description="Not declared as JSON.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(
    503,
    description="The database does not answer. Repeat the request with the same Idempotency-Key: it may have been stored.",
)
@needs(Scope.WRITE, tests=True)
def send(submission: Submission, key: dict[str, str | None]) -> Any:
    """Send a message

    It is stored before this answers and handed to a mail server right after.
    """
    try:
        accepting = accept(
            provided(Services).settings, provided(Store), provided(Publisher), caller(), submission, key["key"]
        )
    except InvalidInput as error:
        if "message_id_header" not in (error.fields or {}) or "message_id_header" in g.body:
            raise
        raise _by_old_name(error) from error
    messages = f"{own_base()}/messages"
    return PendingResponse(accepting, lambda: answer(accepting.result(), messages), who=caller())


def _by_old_name(error: InvalidInput) -> InvalidInput:
    """Return an error about the Message-ID header under the old name, by which the client gave it."""
    fields = error.fields or {}
    return InvalidInput(
        error.message,
        fields={"message_id" if name == "message_id_header" else name: why for name, why in fields.items()},
    )


def answer(accepted: Accepted, messages: str) -> ReadyResponse:
    """Answer that a message is accepted. ``messages`` is the address of all."""
    return ReadyResponse.of(201, *answered(accepted, messages))


def answered(accepted: Accepted, messages: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return value and headers of that answer."""
    headers = {"Location": f"{messages}/{accepted.id}"}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return {"id": accepted.id, "status": accepted.status, "subject": accepted.subject}, headers
