"""``POST /messages``: the HTTP door."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, g, request
from marshmallow import Schema, fields, validate

from mailbbgun.accept.accept import Accepted, Acceptor
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.accept.schema import NewMessage
from mailbbgun.attachments.receive import ReceivedForm
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.error_responses import BodyLimit, too_large
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import PendingResponse, ReadyResponse
from mailbbgun.http.schemas import REPLAYED, Repeatable
from mailbbgun.http.uploads.admission import takes_uploads
from mailbbgun.http.uploads.fields import WHOLE
from mailbbgun.http.uploads.form import UploadedForm
from mailbbgun.http.urls import own_base
from mailbbgun.messages.status import STATUSES
from mailbbgun.services import Services

blueprint = Blueprint("sending", __name__, description="Hand over a message.")


#: The fields of a form that have files: attached ones, and those that the HTML shows.
ATTACHMENT, INLINE = "attachment", "inline"


class Answer(Schema):
    """What a client is told of an accepted message."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES), metadata={"example": "PENDING"})
    subject = fields.String(required=True)
    duplicate_of = fields.UUID(
        metadata={
            "description": "The id of the same message that the API key has sent within its duplicate_seconds: this "
            "one is not sent. Missing if there is none."
        },
    )
    suppressed = fields.List(
        fields.String(),
        metadata={"description": "Recipients on the suppression list, to whom nothing is sent. Missing if none is."},
    )


@dataclass(frozen=True, slots=True)
class ManyDoor:
    """Accepts a message that asks for ``individual`` mails. The room of batches, which is above this one, gives it."""

    accept: Callable[[Fields, Options, Caller], Response]


@dataclass(frozen=True, slots=True)
class DryRunDoor:
    """Answers what would become of a message. The room ``explain``, which is above this one, gives it."""

    answer: Callable[[Fields, Options, Caller], Response]


class Manner(Schema):
    """The query: whether to send the message at all."""

    dry_run = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Only say what would become of the message: its MIME, size, suppressed recipients, account "
            "and authentication. Nothing is stored or sent, and no quota or Idempotency-Key is used."
        },
    )


_BINARY = {"type": "array", "items": {"type": "string", "format": "binary"}}
_FORM = {
    "type": "object",
    "description": "The fields of the JSON, and files. Lists of texts are repeated fields; objects are JSON.",
    "properties": {
        WHOLE: {"type": "string", "description": "All fields as one JSON object, in place of fields of their own."},
        ATTACHMENT: _BINARY,
        INLINE: {**_BINARY, "description": "Images that html shows as cid: and their Content-ID, else their name."},
    },
    "additionalProperties": {"type": "string"},
}

_HEADERS = {
    "Location": {"description": "The message's address.", "schema": {"type": "string", "format": "uri-reference"}},
    **REPLAYED,
}


def _check_length() -> None:
    """Refuse by its head a form whose files could not be sent. Raises :class:`TooLarge`."""
    settings = provided(Services).settings
    most = settings.MAX_MESSAGE_SIZE * 3 // 4 + settings.MAX_BODY_SIZE
    if (request.content_length or 0) > most:
        raise TooLarge(too_large(BodyLimit(most, "three quarters of MAX_MESSAGE_SIZE, and MAX_BODY_SIZE")))


@blueprint.route("/messages", methods=["POST"], tags=["messages"])
@blueprint.arguments(NewMessage, example={"to": "ann@example.com", "subject": "Hello", "text": "It works."})
@blueprint.doc(requestBody={"content": {"multipart/form-data": {"schema": _FORM}}})
@blueprint.arguments(Repeatable, location="headers")
@blueprint.arguments(Manner, location="query")
@blueprint.response(
    201, Answer, description="Stored durably; it will be delivered or you can read why not.", headers=_HEADERS
)
@blueprint.alt_response(
    200,
    schema={"type": "object"},
    description="With `dry_run`: what would become of the message. Nothing is stored.",
)
@blueprint.alt_response(
    202,
    schema={"type": "object"},
    description="With `individual`: stored as a batch. The answer is that of `POST /messages/batch`.",
)
@blueprint.alt_response(413, description="Larger than MAX_BODY_SIZE.")
@blueprint.alt_response(415, description="Not declared as JSON.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(
    503,
    description="The database does not answer. Repeat the request with the same Idempotency-Key: "
    "it may have been stored.",
)
@takes_uploads(admit=_check_length)
@needs(Scope.WRITE, tests=True)
def send(given: tuple[Fields, Options], headers: dict[str, str | None], manner: dict[str, bool]) -> Any:
    """Send a message

    It is stored before this answers and handed to a mail server right after.
    """
    try:
        submission, options = given
        if (form := g.get("form")) is not None and form.files:
            submission = replace(submission, brought=_brought(form))
        if manner["dry_run"]:
            return provided(DryRunDoor).answer(submission, options, caller())
        if submission.individual:
            return provided(ManyDoor).accept(submission, options.with_key(headers["key"]), caller())
        traceparent = request.headers.get("traceparent")
        accepting = provided(Acceptor).accept(submission, caller(), options.with_key(headers["key"]), traceparent)
    except InvalidInput as error:
        if "message_id_header" not in (error.fields or {}) or "message_id_header" in g.body:
            raise
        raise _by_old_name(error) from error
    messages = f"{own_base()}/messages"
    return PendingResponse(accepting, lambda: answer(accepting.result(), messages), who=caller())


def _brought(form: UploadedForm) -> ReceivedForm:
    """Return the files of a form. An image of the HTML is shown there by its Content-ID, else by its name."""
    received = ReceivedForm(form, [ATTACHMENT, INLINE])
    received.files = [
        replace(one, content_id=one.content_id or one.filename) if one.field == INLINE else one
        for one in received.files
    ]
    return received


def _by_old_name(error: InvalidInput) -> InvalidInput:
    """Return an error about the Message-ID header under the old name, which the client used."""
    fields = error.fields or {}
    return InvalidInput(
        error.message,
        fields={"message_id" if name == "message_id_header" else name: why for name, why in fields.items()},
    )


def answer(accepted: Accepted, messages: str) -> ReadyResponse:
    """Answer that a message is accepted. ``messages`` is the URL of all messages."""
    return ReadyResponse.of(201, *answered(accepted, messages))


def answered(accepted: Accepted, messages: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return the value and the headers of that answer."""
    headers = {"Location": f"{messages}/{accepted.id}"}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    told: dict[str, Any] = {"id": accepted.id, "status": accepted.status, "subject": accepted.subject}
    if accepted.suppressed:
        told["suppressed"] = list(accepted.suppressed)
    if accepted.duplicate_of is not None:
        told["duplicate_of"] = accepted.duplicate_of
    return told, headers
