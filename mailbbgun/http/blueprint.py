"""The blueprint that each room's ``api.py`` is made of, and the API that they make together."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, TypeVar, cast

import flask_smorest  # type: ignore[import-untyped]  # it has no types
import marshmallow
from flask import Flask, Response, current_app

from mailbbgun.http.arguments import Parser
from mailbbgun.http.error_responses import ErrorSchema, handle_errors

View = TypeVar("View", bound=Callable[..., Any])

#: The attribute of a view that asks for an API key. Its value is the scope that the key must have.
NEEDS = "needs"

#: The attribute of a view that test keys may use: for them it shows and changes only test data.
TESTS = "tests"

#: The attribute of a view that takes parameters in its URL's query.
QUERY = "query"

#: The attribute of a view whose URL is signed. Pages of other sites may use it.
SIGNED = "signed"

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


def _once(schema: Any) -> Any:
    """Return an instance of a schema that is never copied.

    Each decorator of flask-smorest copies all that those before it have told of the view: half of
    the time in which a program loads the rooms would go into copies of schemas, which nobody changes.
    """
    made = schema() if isinstance(schema, type) else schema
    if isinstance(made, marshmallow.Schema):
        made.__deepcopy__ = lambda _: made  # type: ignore[attr-defined]  # the copy module asks for it
    return made


_ERROR = _once(ErrorSchema)


class Api(flask_smorest.Api):  # type: ignore[misc]  # no types
    """flask-smorest's Api with our error shape."""

    ERROR_SCHEMA = ErrorSchema

    def __init__(self, app: Flask) -> None:
        #: What describes the views of each blueprint in ``spec``. A fifth of a start would be spent on it.
        self.descriptions: list[Callable[[], None]] = []
        self._document: str | None = None
        self._writing = Lock()
        super().__init__(app)

    def _openapi_json(self) -> Response:
        """Serve the OpenAPI document.

        It is written only once, when somebody asks for it: that takes long, and anybody may ask for
        it often.
        """
        with self._writing:
            if self._document is None:
                while self.descriptions:
                    self.descriptions.pop(0)()
                self._document = current_app.json.dumps(self.spec.to_dict())
        return current_app.response_class(self._document, mimetype="application/json")

    def _register_error_handlers(self) -> None:
        handle_errors(self._app)


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]  # no types
    """flask-smorest's Blueprint with the strict parser, and with types."""

    ARGUMENTS_PARSER = Parser()

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Add a view."""
        add = cast(Callable[[View], View], super().route(rule, **options))
        return lambda view: add(self._for_keys(view) if hasattr(view, NEEDS) else view)

    def register_views_in_doc(self, api: Api, *given: Any, **named: Any) -> None:
        """Describe the views when the document is written."""
        api.descriptions.append(partial(super().register_views_in_doc, api, *given, **named))

    def _for_keys(self, view: View) -> View:
        """Document the key that a view asks for, and how it refuses requests without one."""
        scope = getattr(view, NEEDS)
        refusals: dict[int, dict[str, Any]] = {
            401: {"description": "No valid API key was shown."},
            403: {"description": f"The API key may not do this: it needs the scope {scope}."},
            429: {"description": "Too many requests, or today's messages are used up.", "headers": _RATE_HEADERS},
        }
        for status, options in refusals.items():
            view = self.alt_response(status, **options)(view)
        return self.doc(security=[{name: []} for name in SECURITY_SCHEMES])(view)

    def arguments(self, schema: type[marshmallow.Schema], **options: Any) -> Callable[[View], View]:
        # An instance, which is made once: flask-smorest would make one of a class with each
        # request.
        add = cast(Callable[[View], View], super().arguments(_once(schema), **options))
        if options.get("location") != "query":
            return add

        def marked(view: View) -> View:
            added = add(view)
            setattr(added, QUERY, True)
            return added

        return marked

    def doc(self, **options: Any) -> Callable[[View], View]:
        """Add to the OpenAPI document of a view."""
        return cast(Callable[[View], View], super().doc(**options))

    def response(self, status_code: int, schema: Any = None, **options: Any) -> Callable[[View], View]:
        return cast(Callable[[View], View], super().response(status_code, _once(schema), **options))

    def taking(self, content_type: str, schema: Any) -> Callable[[View], View]:
        """Document the body of a request that is no JSON."""
        body = {"required": True, "content": {content_type: {"schema": schema}}}
        return self.doc(requestBody=body)

    def alt_response(self, status_code: int, **options: Any) -> Callable[[View], View]:
        """Document another response. Without a schema it has the error shape."""
        options["schema"] = _once(options.get("schema", _ERROR))
        return cast(Callable[[View], View], super().alt_response(status_code, **options))
