"""The web's conventions, once for every room: the one error shape, strict input, paging, and what blueprints are made of.

``{"error": {"status": 400, "code": "validation_error", "message": "…", "fields": {"to": ["`to` is required."]}}}``
"""

import json
import logging
import math
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol, Self, TypeVar, cast
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode
from uuid import UUID

import flask_smorest  # type: ignore[import-untyped]  # it has no types
import marshmallow
import orjson
from flask import Flask, Request, Response, current_app, g, request, url_for
from flask.json.provider import JSONProvider
from marshmallow import fields, validate
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from mailbbgun.core.caller import Caller
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import (
    InvalidInput,
    MailBBGunError,
    MalformedBody,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)
from mailbbgun.core.hosts import Hosts
from mailbbgun.core.net import network_of
from mailbbgun.database.idempotency import HEADER
from mailbbgun.http.bad_input import EXAMPLE_ID, MOST_FIELDS, kind_of, name_of, sentences, shown, summed_up
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.unknown_routes import not_offered, nothing_at

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])

EXTENSION = "mailbbgun"
INVALID = "Some fields are not valid."
NOUNS = {"json": "field", "query": "parameter", "headers": "header"}  # location → what is given there
PLUS = "plus"  # the attribute of a query's field in which a + is no blank
NEEDS = "needs"  # the attribute of a view that asks for a key: the scope it must have
TESTS = "tests"  # the attribute of a view that test keys may use, because it shows and changes test data alone for them
WHO = "mailbbgun.who"  # in a request's environment: its caller, once that is known
AWAITS = "mailbbgun.parks"  # in a request's environment: the server knows of :class:`PendingResponse`
MOST_DEPTH = 32  # objects and lists inside each other; ours have four at most
MOST_STRUCTURE = 1_000_000  # characters outside strings: 32 MB of [],[],… would become 1 GB
_TOO_DEEP = f"The body is nested too deeply: {MOST_DEPTH} objects and lists inside each other are the most."
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # linear: it never looks at a character twice
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LARGEST_INTEGER = 2**63 - 1  # what the databases hold
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

log = logging.getLogger("mailbbgun.web")


def provide(app: Flask, *values: object) -> None:
    """Hand values to the rooms, one of each type."""
    app.extensions[EXTENSION] = {type(value): value for value in values}


def provided(kind: type[T]) -> T:
    """Return what :func:`provide` was given of that type."""
    return cast(T, current_app.extensions[EXTENSION][kind])


INTERNAL_ERROR = ("internal_error", "Something went wrong here; the log says what.")


def too_large(most: int) -> str:
    """Say that a request's body is larger than ``most`` bytes."""
    return f"The request's body is larger than {most} bytes, the limit (MAX_BODY_SIZE)."


def error_response(status: int, code: str, message: str, fields: Mapping[str, Sequence[str]] | None = None) -> Response:
    """Return the one error shape."""
    error: dict[str, Any] = {"status": status, "code": code, "message": message}
    if fields:
        error["fields"] = {name[:100]: list(why) for name, why in list(fields.items())[:MOST_FIELDS]}
    answer = cast(Response, current_app.json.response({"error": error}))
    answer.status_code = status
    return answer


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


class Api(flask_smorest.Api):  # type: ignore[misc]  # no types
    """flask-smorest's Api with our error shape."""

    ERROR_SCHEMA = ErrorSchema
    _document: str | None = None

    def _openapi_json(self) -> Response:
        """Serve the OpenAPI document. It is written once: that takes milliseconds, which whoever asks again and again would take from others."""
        if self._document is None:
            self._document = current_app.json.dumps(self.spec.to_dict())
        return current_app.response_class(self._document, mimetype="application/json")

    def _register_error_handlers(self) -> None:
        self._app.register_error_handler(MailBBGunError, _our_error)
        self._app.register_error_handler(HTTPException, _http_error)
        self._app.register_error_handler(Exception, _unexpected_error)


def _our_error(error: MailBBGunError) -> Response:
    if error.status >= 500:
        cause = str(error.__cause__).partition("\n")[0]  # what follows may be a statement with its parameters
        log.warning(
            "unavailable", extra={"method": request.method, "path": request.path, "error": str(error), "cause": cause}
        )
    if error.status in TOLD:
        _tell_refused(error)
    message = summed_up(error.fields) if error.fields and error.message == INVALID else error.message
    answer = error_response(error.status, error.code, message, error.fields)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="Mail BB Gun"'  # RFC 9110 §11.6.1 wants one
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
        if isinstance(error, TooManyRequests):
            add_headers(answer, rate_headers(error.limit, 0, error.retry_after))
    return answer


TOLD = (401, 403, 421, 429)  # statuses that leave a line in the log


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


def rate_headers(limit: int, remaining: int, seconds: int) -> dict[str, str]:
    """Return what tells a client of a limit (draft-ietf-httpapi-ratelimit-headers-05): how much is left, and in how many seconds there is more."""
    return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(seconds)}


def add_headers(answer: Response, headers: Mapping[str, str]) -> None:
    """Add those headers that an answer has not."""
    for name, value in headers.items():
        answer.headers.setdefault(name, value)


def _http_error(error: HTTPException) -> Any:
    status = error.code or 500
    code, message = _explained(status, error)
    answer = error_response(status, code, message)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value  # Allow, Retry-After
    return answer


def _explained(status: int, error: HTTPException) -> tuple[str, str]:
    """Return the code of an error that Flask raises, and a sentence that says what would be right."""
    if status == 413:
        return "too_large", too_large(current_app.config["MAX_CONTENT_LENGTH"])
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


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8, not too deep, no duplicate keys, NaN, numbers no database holds, NUL or lone surrogates.

    A byte order mark before it is ignored (RFC 8259 §8.1).

    Raises :class:`MalformedBody`, :class:`TooLarge`.
    """
    raw = raw.removeprefix(BOM_UTF8)
    if not raw.strip():
        raise MalformedBody("The body is empty; it must be a JSON object.")
    try:
        text = raw.decode()
        if len(text) > MOST_STRUCTURE and len(_STRING.sub("", text)) > MOST_STRUCTURE:
            raise TooLarge(f"The body has too many values: {MOST_STRUCTURE} characters outside strings are the most.")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"The body is not UTF-8: byte {error.start + 1} begins no character. Send JSON in UTF-8."
        ) from error
    except RecursionError as error:
        raise MalformedBody(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"The body is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise MalformedBody(f'The body must be a JSON object, such as {{"name": "value"}}; it is {kind_of(value)}.')
    if _deeper_than(MOST_DEPTH, value):
        raise MalformedBody(_TOO_DEEP)
    # Both can only come from a \u escape: the decoder refuses raw control characters, UTF-8 raw surrogates.
    if "\\u" in text and any(UNSTORABLE.search(string) for string in _strings(value)):
        raise MalformedBody(
            "The body has a string with a NUL (\\u0000) or half a surrogate pair (\\ud800 to \\udfff), which cannot be kept."
        )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add is None
        raise ValueError(f"the key {name_of(twice)} is twice in one object")
    return made


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(number := int(digits)) > LARGEST_INTEGER:
        raise ValueError(f"{shown(digits)[1:-1]} is an integer beyond 64 bits")
    return number


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{shown(digits)[1:-1]} is no number, or one that is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float)


def _deeper_than(most: int, value: Any) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            below
            for one in level
            for below in (one.values() if isinstance(one, dict) else one)
            if isinstance(below, dict | list)
        ]
        if not level:
            return False
    return True


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]  # not recursive: the depth is the client's
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict | list):
            waiting += [*found, *found.values()] if isinstance(found, dict) else found


def parameters(query: bytes, with_plus: Collection[str]) -> list[tuple[str, str]]:
    """Return the parameters of a query, in its order.

    In those that are named ``with_plus`` a ``+`` is a plus, for addresses have them and people write them as they are; in all others it is a
    blank (WHATWG URL §5.1). ``%20`` is a blank and ``%2B`` a plus in each.
    """
    pieces = query.decode(errors="replace").split("&")
    if with_plus:
        pieces = [
            one.replace("+", "%2B") if unquote_plus(one.partition("=")[0]) in with_plus else one for one in pieces
        ]
    return parse_qsl("&".join(pieces), keep_blank_values=True, errors="replace")


class Parser(FlaskParser):
    """Strict arguments: what is unknown, given twice or not JSON is an error, and every error is ours."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": marshmallow.RAISE}  # noqa: RUF012 - as the base has it

    def load_json(self, req: Request, schema: marshmallow.Schema) -> Any:
        """Return the body's object, which is also ``g.body``. A route that needs no field of it takes no body as well."""
        if (
            not any(field.required for field in schema.fields.values())
            and not req.content_length
            and not req.headers.get("Transfer-Encoding")
        ):
            return {}
        charset = req.mimetype_params.get("charset", "utf-8").lower()
        if req.mimetype != "application/json" or charset not in ("utf-8", "utf8", "us-ascii"):
            said = f"Content-Type is {shown(req.content_type)}" if req.content_type else "there is no Content-Type"
            raise UnsupportedMediaType(f"Send JSON in UTF-8 and say so: -H 'Content-Type: application/json'; {said}.")
        if (encoding := req.headers.get("Content-Encoding", "identity")) != "identity":
            raise UnsupportedMediaType(f"Send the body without Content-Encoding, not as {shown(encoding)}.")
        g.body = parse_object(_read(req))
        return g.body

    def load_querystring(self, req: Request, schema: marshmallow.Schema) -> Any:
        """Return the query's parameters, each once; they are also ``g.query``."""
        pairs = parameters(
            req.query_string, {field.data_key or name for name, field in schema.fields.items() if hasattr(field, PLUS)}
        )
        query = dict(pairs)
        wrong: dict[str, list[str]] = {}
        if len(query) < len(pairs):
            times = Counter(name for name, _ in pairs)
            wrong = {
                name: [f"{name_of(name)} is given {often} times; give it once."]
                for name, often in times.items()
                if often > 1
            }
        wrong |= {
            name: ["Has a NUL character (%00), which no value can have."] for name, value in pairs if "\0" in value
        }
        if wrong:
            raise InvalidInput(INVALID, fields=wrong)
        g.query = query
        return query

    def load_headers(self, req: Request, schema: marshmallow.Schema) -> Any:
        """Return those headers that the schema names."""
        names = [field.data_key or name for name, field in schema.fields.items()]
        return {name: req.headers[name] for name in names if name in req.headers}

    def parse(self, argmap: Any, req: Request | None = None, *, location: str | None = None, **_: Any) -> Any:
        """Load the schema ``argmap`` from what the request has at ``location``. The base's does the same for many frameworks."""
        req, where, schema = req or request, location or "json", cast(marshmallow.Schema, argmap)
        given = self._load_location_data(schema=schema, req=req, location=where)
        try:
            return schema.load(given, unknown=cast(Any, self.DEFAULT_UNKNOWN_BY_LOCATION.get(where)))
        except marshmallow.ValidationError as error:
            raise InvalidInput(INVALID, fields=sentences(error.messages, schema, given, NOUNS[where])) from error


def _read(req: Request) -> bytes:
    try:
        raw = req.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # the server's own, of which we know nothing: a chunk that is none, a client that left
        raise MalformedBody("The body could not be read.") from error
    # A body that comes in chunks is cut at the limit without a word.
    if req.content_length is None and req.max_content_length is not None and len(raw) >= req.max_content_length:
        raise TooLarge(too_large(req.max_content_length))
    return raw


_RATE_HEADERS = {
    "Retry-After": {"description": "Seconds until it makes sense to ask again.", "schema": {"type": "integer"}},
    "RateLimit-Limit": {"description": "The limit that is used up.", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "How much of it is left.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until there is more.", "schema": {"type": "integer"}},
}


SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "mbg_…"},
    "basic": {"type": "http", "scheme": "basic", "description": "The API key is the password; any user name does."},
}


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]  # no types
    """flask-smorest's Blueprint with the strict parser; the same methods, typed."""

    ARGUMENTS_PARSER = Parser()

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Add a view."""
        add = cast(Callable[[View], View], super().route(rule, **options))
        return lambda view: add(self._for_keys(view) if hasattr(view, NEEDS) else view)

    def _for_keys(self, view: View) -> View:
        """Document what holds of views that ask for a key, where that is required."""
        scope = getattr(view, NEEDS)
        refusals: dict[int, dict[str, Any]] = {
            401: {"description": "No valid API key was shown."},
            403: {"description": f"The API key may not do this: it needs the scope {scope}."},
            429: {"description": "Too many requests, or today's messages are used up.", "headers": _RATE_HEADERS},
        }
        for status, options in refusals.items():
            view = self.alt_response(status, **options)(view)
        return cast(View, self.doc(security=[{name: []} for name in SECURITY_SCHEMES])(view))

    def arguments(self, schema: type[marshmallow.Schema], **options: Any) -> Callable[[View], View]:
        return cast(
            Callable[[View], View], super().arguments(schema(), **options)
        )  # an instance: made once, not with each request

    def response(self, status_code: int, schema: Any = None, **options: Any) -> Callable[[View], View]:
        return cast(Callable[[View], View], super().response(status_code, schema, **options))

    def alt_response(self, status_code: int, **options: Any) -> Callable[[View], View]:
        """Document another answer; without a schema it is the error shape."""
        options.setdefault("schema", ErrorSchema)
        return cast(Callable[[View], View], super().alt_response(status_code, **options))


SECURE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def ready(value: Any, headers: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """Return all headers, and the body, of an answer that is ``value`` as JSON."""
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return {"Content-Type": "application/json", "Content-Length": str(len(body)), **SECURE, **headers}, body


class ReadyResponse(Response):
    """An answer with nothing left to do to it. Half of what an answer costs is looking for what may be missing."""

    @classmethod
    def of(cls, status: int, value: Any, headers: Mapping[str, str]) -> Self:
        """Answer ``value`` as JSON."""
        all_headers, body = ready(value, headers)
        return cls(body, status, all_headers)

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return them as they are."""
        del environ
        return self.headers


class Ending(Protocol):
    """Something that ends by itself once it is begun, by who wants to be told or asks for its result."""

    @property
    def ended(self) -> bool:
        """Whether its result is at hand."""

    def begin(self, then: Callable[[], None]) -> None:
        """Begin, and call back, from any thread, when waiting makes no sense any more: it has ended, or needs somebody's thread for that."""


class PendingResponse(Response):
    """An answer that is known when something has ended.

    A server that can wait without a thread says so by :data:`AWAITS` in the environment; it gets this back, and asks for :meth:`answer` in its
    time. To any other server this is an answer as all are.
    """

    def __init__(
        self, ending: Ending, answer: Callable[[], Response], app: Flask | None = None, who: Caller | None = None
    ) -> None:
        # Not the base's: that makes headers and a body, and this is never sent.
        self.ending = ending
        self.more: Mapping[str, str] = {}  # headers to be added to the answer
        self._answer = answer
        self._who = who
        self._app = app or cast(Any, current_app)._get_current_object()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer, or wait to be asked."""
        return self if environ.get(AWAITS) else self.answer(environ)(environ, start_response)

    def answer(self, environ: Any) -> Response:
        """Return the answer, waiting for it if it has not ended."""
        answer = self._made(environ)
        if self.more:
            add_headers(answer, self.more)
        return answer

    def _made(self, environ: Any) -> Response:
        if self.ending.ended:
            return self._answer()
        with self._app.request_context(environ if self._who is None else {**environ, WHO: self._who}):
            try:
                return self._answer()
            except Exception as error:  # noqa: BLE001 - as Flask does with what a view raises
                return cast(
                    Response,
                    self._app.finalize_request(self._app.handle_user_exception(error), from_error_handler=True),
                )


def secured(answer: Response, policy: str) -> Response:
    """Set what an answer lacks of :data:`SECURE`, with that content security policy."""
    if not isinstance(answer, ReadyResponse | PendingResponse):
        for name, value in (SECURE | {"Content-Security-Policy": policy}).items():
            answer.headers.setdefault(name, value)
    return answer


class Nothing(marshmallow.Schema):
    """The body of a request that needs none."""


class JSON(JSONProvider):
    """Answers by orjson, with a newline for those who read them on a terminal."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_APPEND_NEWLINE).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return orjson.loads(s)


def _in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; the first or last that can be told for one that is beyond."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)


class Time(fields.DateTime):
    """RFC 3339 in UTC: ``2026-01-01T12:00:00.000Z`` out, any offset in, or a date, which is its midnight."""

    expected = "a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date"

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else rfc3339(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        # In a query an unescaped + arrives as a space.
        text = value.replace(" ", "+") if isinstance(value, str) else ""
        try:
            if DATE.fullmatch(text):
                return datetime.fromisoformat(f"{text}T00:00:00Z")
            if RFC3339.fullmatch(text):
                return _in_utc(datetime.fromisoformat(text.upper()))
        except ValueError:
            pass  # the 30th of February
        raise self.make_error("validator_failed")


class Count(fields.Integer):
    """A number in a query: ASCII digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class Page(marshmallow.Schema):
    """The query of every list."""

    limit = Count(
        load_default=10,
        validate=validate.Range(0, 1000),
        metadata={"description": "At most so many; 0 gives only the count."},
    )
    offset = Count(
        load_default=0,
        validate=validate.Range(0, 10**9),
        metadata={"description": "Skip so many; deep lists go faster by `after`."},
    )
    after = fields.UUID(
        load_default=None,
        metadata={"description": "Go on after this id: the last one of the page before.", "example": EXAMPLE_ID},
    )


class Repeatable(marshmallow.Schema):
    """The header of a request that creates something and may be sent again safely."""

    key = fields.String(
        data_key=HEADER,
        load_default=None,
        metadata={
            "description": "Repeat a request with its key and body and you get its first answer again, for 24 hours; nothing is made twice."
        },
    )


REPLAYED = {
    "Idempotent-Replayed": {
        "description": "true: this is the first answer again.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
LOCATION = {"Location": {"description": "Where it is.", "schema": {"type": "string", "format": "uri-reference"}}}


def created(answer: Mapping[str, Any], location: str, replayed: bool) -> ReadyResponse:
    """Answer 201; ``replayed``: to a request that was answered so before."""
    return ReadyResponse.of(201, answer, {"Location": location} | ({"Idempotent-Replayed": "true"} if replayed else {}))


_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)


def named_hosts() -> list[str | None]:
    """Return the hosts that the request names, the one that counts first; None stands for none.

    A target in absolute form names one, and then that of the Host header counts for nothing (RFC 9112 §3.2.2).
    """
    header = request.headers.get("Host")
    target = _ABSOLUTE.match(request.environ.get("RAW_URI", ""))
    return [target[1], header] if target else [header]


def address_of(endpoint: str, **values: Any) -> str:
    """Return the address of a view. It begins with a host only if that is known to be ours: see :meth:`Hosts.base`."""
    path, root = url_for(endpoint, **values), quote(request.root_path)
    return own_base() + path.removeprefix(root)


def own_base() -> str:
    """Return what addresses of ours begin with, in answers to this request."""
    return provided(Hosts).base(request.scheme, named_hosts()[0], quote(request.root_path))


def next_page(last: UUID | None) -> dict[str, str]:
    """Return the ``Link`` header to the page after the entry ``last``; nothing when that was the end."""
    if last is None:
        return {}
    kept = {name: value for name, value in g.query.items() if name not in ("offset", "after")}
    page = address_of(request.endpoint or "", **(request.view_args or {}))
    # A blank as %20: in addresses a + is a plus.
    return {"Link": f'<{page}?{urlencode({**kept, "after": str(last)}, quote_via=quote)}>; rel="next"'}
