"""Responses: JSON, security headers, and responses that are finished later."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self, cast

import orjson
from flask import Flask, Response, current_app
from flask.json.provider import JSONProvider
from werkzeug.datastructures import Headers

from mailbbgun.core.caller import Caller

#: The key of a request's WSGI environment that has its caller, once that is known.
WHO = "mailbbgun.who"

#: The key of a request's WSGI environment by which a server says that it knows
#: :class:`PendingResponse`.
AWAITS = "mailbbgun.pending"

#: Headers that every response has. Pages for browsers have another Content-Security-Policy.
SECURE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


#: The response to ``GET /health``, which says that the process is alive.
HEALTHY = {"status": "ok"}


class JSON(JSONProvider):
    """Writes JSON with orjson, and a newline at its end for people who read it on a terminal."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_APPEND_NEWLINE).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return orjson.loads(s)


def add_headers(answer: Response, headers: Mapping[str, str]) -> None:
    """Add those headers that a response does not have yet."""
    for name, value in headers.items():
        answer.headers.setdefault(name, value)


def ready(value: Any, headers: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """Return all headers and the body of a response that is ``value`` as JSON."""
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return {"Content-Type": "application/json", "Content-Length": str(len(body)), **SECURE, **headers}, body


class ReadyResponse(Response):
    """A response whose headers are complete.

    Werkzeug looks for missing headers in any other. That is half of what a response costs.
    """

    @classmethod
    def of(cls, status: int, value: Any, headers: Mapping[str, str]) -> Self:
        """Return a response that is ``value`` as JSON."""
        all_headers, body = ready(value, headers)
        return cls(body, status, all_headers)

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return the headers as they are."""
        del environ
        return self.headers


def created(answer: Mapping[str, Any], location: str, replayed: bool) -> ReadyResponse:
    """Return a 201. ``replayed``: the same request was answered before, and this is that answer."""
    return ReadyResponse.of(201, answer, {"Location": location} | ({"Idempotent-Replayed": "true"} if replayed else {}))


class Ending(Protocol):
    """Work, such as a commit, that somebody must begin and that then ends by itself."""

    @property
    def ended(self) -> bool:
        """Whether its result is there."""

    def begin(self, then: Callable[[], None]) -> None:
        """Begin the work, and call ``then`` when waiting any longer makes no sense.

        That is when the work has ended, or when it needs a thread of the caller's to end. The call
        may come from any thread.
        """


class PendingResponse(Response):
    """A response that is finished later, when ``ending`` has ended.

    A server that can wait without a thread puts :data:`AWAITS` into the environment. The
    application then returns this object to it, and the server calls :meth:`answer` later. For any
    other server it is an ordinary response.
    """

    def __init__(
        self, ending: Ending, answer: Callable[[], Response], app: Flask | None = None, who: Caller | None = None
    ) -> None:
        # Not the base's __init__: it makes headers and a body, and this object is never sent.
        self.ending = ending
        #: Headers to add to the finished response.
        self.more: Mapping[str, str] = {}
        self._answer = answer
        self._who = who
        self._app = app or cast(Any, current_app)._get_current_object()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Return this object to a server that knows it; send the finished response to any other."""
        return self if environ.get(AWAITS) else self.answer(environ)(environ, start_response)

    def answer(self, environ: Any) -> Response:
        """Return the finished response. Waits if the work has not ended."""
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


class StreamedBody:
    """The body of a :class:`StreamedResponse`: its pieces may be made one at a time, when they are wanted.

    Several threads may make them, one after the other, long after the view has returned.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """Nothing more is wanted."""
        if close := getattr(self._pieces, "close", None):
            close()


class StreamedResponse(Response):
    """A response that is too large to be kept: a server makes its pieces while the client reads.

    What makes them must need nothing of the request, and must hold no session of the database between
    two of them.
    """

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Return a body by which a server knows that it may make the pieces when they are wanted."""
        return StreamedBody(super().__call__(environ, start_response))


def secured(answer: Response, policy: str) -> Response:
    """Add those headers of :data:`SECURE` that a response lacks.

    ``policy`` is its Content-Security-Policy.
    """
    if not isinstance(answer, ReadyResponse | PendingResponse):
        for name, value in (SECURE | {"Content-Security-Policy": policy}).items():
            answer.headers.setdefault(name, value)
    return answer
