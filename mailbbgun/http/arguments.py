"""A request's arguments: its JSON body, its query and its headers, read strictly by a schema."""

from collections import Counter
from collections.abc import Collection
from typing import Any, cast
from urllib.parse import parse_qsl, unquote_plus

import marshmallow
from flask import Request, g, request
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from mailbbgun.core.errors import InvalidInput, MalformedBody, TooLarge, UnsupportedMediaType
from mailbbgun.http.bad_input import name_of, sentences, shown
from mailbbgun.http.error_responses import INVALID, BodyLimit, too_large
from mailbbgun.http.strict_json import MOST_STRUCTURE, parse_object
from mailbbgun.http.uploads.admission import read_form
from mailbbgun.http.uploads.fields import TAKES_FORMS, as_object
from mailbbgun.http.uploads.multipart import FORM

#: Location of arguments → what one argument is called there.
NOUNS = {"json": "field", "query": "parameter", "headers": "header"}

#: The attribute of a schema whose bodies may have so many characters outside strings, instead of MOST_STRUCTURE.
STRUCTURE = "most_structure"

#: The attribute of a schema whose bodies have a limit of their own: a function that returns it.
LIMIT = "limit"

#: The attribute of a query's field in which a ``+`` is not a blank.
PLUS = "plus"


def parameters(query: bytes, with_plus: Collection[str]) -> list[tuple[str, str]]:
    """Return the parameters of a query, in its order.

    A ``+`` is a blank (WHATWG URL §5.1), except in the parameters named in ``with_plus``: these are
    e-mail addresses, which have pluses, and people write them unescaped. ``%20`` is always a blank
    and ``%2B`` always a plus.
    """
    pieces = query.decode(errors="replace").split("&")
    if with_plus:
        pieces = [
            one.replace("+", "%2B") if unquote_plus(one.partition("=")[0]) in with_plus else one for one in pieces
        ]
    return parse_qsl("&".join(pieces), keep_blank_values=True, errors="replace")


class Parser(FlaskParser):
    """Reads arguments strictly: unknown or repeated ones, and invalid JSON, are our errors."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": marshmallow.RAISE}  # noqa: RUF012 - as the base has it

    def load_json(self, req: Request, schema: marshmallow.Schema) -> Any:
        """Return the object in the body, and keep it as ``g.body``.

        The body may be missing if the schema requires no field. If the schema takes forms, there must
        be a body, which may be one; then it is kept as ``g.form``, too.
        """
        if (
            not hasattr(schema, TAKES_FORMS)
            and not any(field.required for field in schema.fields.values())
            and not req.content_length
            and not req.headers.get("Transfer-Encoding")
        ):
            g.body = {}
            return g.body
        if req.mimetype == FORM and hasattr(schema, TAKES_FORMS):
            g.form = read_form()
            g.body = as_object(g.form.fields, schema)
            return g.body
        charset = req.mimetype_params.get("charset", "utf-8").lower()
        if req.mimetype != "application/json" or charset not in ("utf-8", "utf8", "us-ascii"):
            said = f"Content-Type is {shown(req.content_type)}" if req.content_type else "there is no Content-Type"
            form = ", or a form as multipart/form-data: -F to=ann@example.com" if hasattr(schema, TAKES_FORMS) else ""
            raise UnsupportedMediaType(
                f"Send JSON in UTF-8 and say so: -H 'Content-Type: application/json'{form}; {said}."
            )
        if (encoding := req.headers.get("Content-Encoding", "identity")) != "identity":
            raise UnsupportedMediaType(f"Send the body without Content-Encoding, not as {shown(encoding)}.")
        raw = _read(req)
        limit: BodyLimit | None = getattr(schema, LIMIT, lambda: None)()
        if limit is not None and len(raw) > limit.bytes:
            raise TooLarge(too_large(limit))
        g.body = parse_object(raw, getattr(schema, STRUCTURE, MOST_STRUCTURE))
        return g.body

    def load_querystring(self, req: Request, schema: marshmallow.Schema) -> Any:
        """Return the parameters of the query, and keep them as ``g.query``."""
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
        """Load the schema ``argmap`` from the request's arguments at ``location``.

        Replaces the base's method, which does the same for many frameworks.
        """
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
    except Exception as error:  # any error of the WSGI server's: a malformed chunk, a client that left
        raise MalformedBody("The body could not be read.") from error
    # Werkzeug cuts a body that comes in chunks at the limit, and raises no error.
    if req.content_length is None and req.max_content_length is not None and len(raw) >= req.max_content_length:
        raise TooLarge(too_large(BodyLimit(req.max_content_length)))
    return raw
