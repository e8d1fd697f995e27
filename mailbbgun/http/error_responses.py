"""The one shape of every error, and the handlers that turn exceptions into it.

``{"error": {"status": 400, "code": "validation_error", "message": "…", "fields": {"to": ["…"]}}}``
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import marshmallow
from flask import Flask, Response, current_app, request
from marshmallow import fields
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from mailbbgun.core.errors import MailBBGunError, TooManyRequests, Unauthorized
from mailbbgun.core.net import network_of
from mailbbgun.http.bad_input import MOST_FIELDS, summed_up
from mailbbgun.http.provided import provided
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.responses import WHO, add_headers
from mailbbgun.http.unknown_routes import not_offered, nothing_at

#: The message of an error that has ``fields``. The client gets a sentence about those instead.
INVALID = "Some fields are not valid."

#: Code and message of an error that nobody expected.
INTERNAL_ERROR = ("internal_error", "Something went wrong here; the log says what.")

#: Statuses that leave a line in the log.
TOLD = (401, 403, 421, 429, 507)

log = logging.getLogger("mailbbgun.web")


class _Error(marshmallow.Schema):
    status = fields.Integer(required=True, metadata={"example": 400})
    code = fields.String(
        required=True, metadata={"description": "Stable, for programs.", "example": "validation_error"}
    )
    message = fields.String(required=True, metadata={"description": "For people.", "example": "`to` is required."})
    wrong = fields.Dict(
        fields.String(),
        fields.List(fields.String()),
        data_key="fields",
        metadata={
            "description": "What is wrong with each field, and what would be right.",
            "example": {"to": ["`to` is required."]},
        },
    )


class ErrorSchema(marshmallow.Schema):
    """The shape of every error."""

    error = fields.Nested(_Error, required=True)


def error_response(status: int, code: str, message: str, fields: Mapping[str, Sequence[str]] | None = None) -> Response:
    """Return a response of the one error shape."""
    error: dict[str, Any] = {"status": status, "code": code, "message": message}
    if fields:
        error["fields"] = {name[:100]: list(why) for name, why in list(fields.items())[:MOST_FIELDS]}
    answer = cast(Response, current_app.json.response({"error": error}))
    answer.status_code = status
    return answer


class BodyLimit(NamedTuple):
    """The most bytes that a request's body may have, and which settings say so."""

    bytes: int
    settings: str = "MAX_BODY_SIZE"


def too_large(limit: BodyLimit) -> str:
    """Return the sentence about a body that is larger than its limit."""
    return f"The request's body is larger than {limit.bytes} bytes, the limit ({limit.settings})."


def rate_headers(limit: int, remaining: int, seconds: int) -> dict[str, str]:
    """Return the headers that describe a limit (draft-ietf-httpapi-ratelimit-headers-05).

    ``remaining`` of ``limit`` are left, and there are more in ``seconds``.
    """
    return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(seconds)}


def handle_errors(app: Flask) -> None:
    """Answer every exception in the one error shape."""
    app.register_error_handler(MailBBGunError, _our_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def _our_error(error: MailBBGunError) -> Response:
    if error.status >= 500 and error.status not in TOLD:
        # Only the first line: the next may be an SQL statement with its parameters.
        cause = str(error.__cause__).partition("\n")[0]
        log.warning(
            "unavailable", extra={"method": request.method, "path": request.path, "error": str(error), "cause": cause}
        )
    if error.status in TOLD:
        _tell_refused(error)
    message = summed_up(error.fields) if error.fields and error.message == INVALID else error.message
    answer = error_response(error.status, error.code, message, error.fields)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="Mail BB Gun"'  # RFC 9110 §11.6.1 requires one
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
        if isinstance(error, TooManyRequests):
            add_headers(answer, rate_headers(error.limit, 0, error.retry_after))
    return answer


def _tell_refused(error: MailBBGunError) -> None:
    who, address = request.environ.get(WHO), request.remote_addr
    fields: dict[str, object] = {
        "client": address,
        "method": request.method,
        "path": request.path[:200],
        "status": error.status,
        "code": error.code,
    }
    if who is not None:
        fields |= {"tenant_id": who.tenant_id, "key_id": who.key_id}
    provided(Refusals).tell(error.code, network_of(address), {**fields, **error.told})


def _http_error(error: HTTPException) -> Any:
    status = error.code or 500
    code, message = _explained(status, error)
    answer = error_response(status, code, message)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value  # Allow, Retry-After
    return answer


def _explained(status: int, error: HTTPException) -> tuple[str, str]:
    """Return the code of an error of Flask's, and a sentence that says what would be right."""
    if status == 413:
        return "too_large", too_large(BodyLimit(current_app.config["MAX_CONTENT_LENGTH"]))
    if status == 404:
        return "not_found", nothing_at(request.path, [rule.rule for rule in current_app.url_map.iter_rules()])
    if isinstance(error, MethodNotAllowed):
        return "method_not_allowed", not_offered(request.method, request.path, error.valid_methods or ())
    if status == 500:
        return INTERNAL_ERROR
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_"), error.description or ""


def _unexpected_error(error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error, extra={"method": request.method, "path": request.path})
    return error_response(500, *INTERNAL_ERROR)
