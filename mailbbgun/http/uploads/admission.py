"""Uploads: requests whose body is a file or has files, and goes to disk instead of into memory.

Our server asks the application twice. First with the head alone (:data:`ADMITTING`): the gate and
:func:`admit_uploads` decide whether the body may come. So a client without a valid key, or with
too large a body, is refused before a byte of the body is read. When the whole body is on disk, the
server asks again, and the view reads it. Meanwhile the client takes no thread, however slow it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.wsgi import get_input_stream

from mailbbgun.core.errors import MalformedBody, UnsupportedMediaType
from mailbbgun.http.bad_input import shown
from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.http.provided import provided
from mailbbgun.http.uploads.form import UploadedForm
from mailbbgun.http.uploads.multipart import BLOCK, FORM, FormLimits, boundary_of

View = TypeVar("View", bound=Callable[..., Any])

#: The key of a WSGI environment by which a server asks with the head of an upload alone.
ADMITTING = "mailbbgun.admitting"

#: The key of the WSGI environment of an upload that was admitted. It has the headers about limits:
#: the request was counted when it was admitted.
COUNTED = "mailbbgun.counted"

#: What bounds the body of an upload.
UPLOAD_SETTINGS = "MAX_FILES_PER_REQUEST files of MAX_FILE_SIZE, and MAX_BODY_SIZE"

#: The attribute of a view that takes uploads.
_UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class _Upload:
    media_type: str | None
    admit: Callable[..., None] | None


def takes_uploads(media_type: str | None = FORM, admit: Callable[..., None] | None = None) -> Callable[[View], View]:
    """Mark a view: requests of this type of content are uploads (None: of any type).

    ``admit`` is called before the body is read, with the arguments of the route. What it raises is
    the response. The view calls :func:`read_form` or :func:`read_body`.
    """

    def marked(view: View) -> View:
        setattr(view, _UPLOAD, _Upload(media_type, admit))
        return view

    return marked


class Admitted(Response):
    """Says to a server that asked with :data:`ADMITTING`: the body may come. It is never sent."""

    #: The headers about limits that the response to the upload has.
    counted: Mapping[str, str] = MappingProxyType({})

    def __call__(self, _environ: Any, _start_response: Any) -> Any:
        """Return this object to the server."""
        return self


class UploadRoutes:
    """Tells the server which requests are uploads. Make it after all views were added."""

    def __init__(self, app: Flask, limit: BodyLimit) -> None:
        self._views = app.view_functions
        self._routes = app.url_map.bind("localhost")
        self._limit = limit

    def limit_of(self, method: str, path: str, content_type: str) -> BodyLimit | None:
        """Return the limit of the body if a request is an upload, else None."""
        try:
            endpoint, _ = self._routes.match(unquote(path), method)
        except (HTTPException, RequestRedirect):
            return None
        upload = _upload_of(self._views[endpoint])
        return self._limit if upload is not None and _is(upload, content_type) else None


def admit_uploads(app: Flask) -> None:
    """Answer requests that ask with the head of an upload alone. Call this after the gate's."""

    @app.before_request
    def _admit() -> Response | None:
        if ADMITTING not in request.environ:
            return None
        _refuse_encoding()
        upload = _upload_of(current_app.view_functions[cast(str, request.endpoint)])
        if upload is not None and upload.media_type == FORM:
            boundary_of(request.content_type)
        if upload is not None and upload.admit is not None:
            upload.admit(**request.view_args or {})
        return Admitted()


def read_body() -> BinaryIO:
    """Return the body of this request, which is an upload, to be read in blocks."""
    _refuse_encoding()
    return cast(BinaryIO, get_input_stream(request.environ))


def read_blocks() -> Iterator[bytes]:
    """Yield the body of this request, which is an upload. Raises :class:`MalformedBody` if it breaks off."""
    stream = read_body()
    while True:
        try:
            block = stream.read(BLOCK)
        except HTTPException:
            raise
        except Exception as error:  # any error of the WSGI server's: a malformed chunk, a client that left
            raise MalformedBody("The body could not be read.") from error
        if not block:
            return
        yield block


def read_form() -> UploadedForm:
    """Return the form in this request's body, within the application's :class:`FormLimits`.

    Raises :class:`UnsupportedMediaType` if it is none, :class:`MalformedForm`, :class:`TooLarge`.
    """
    _refuse_encoding()
    return UploadedForm(request.environ, request.content_type, provided(FormLimits))


def _refuse_encoding() -> None:
    if (encoding := request.headers.get("Content-Encoding", "identity")) != "identity":
        raise UnsupportedMediaType(f"Send the body without Content-Encoding, not as {shown(encoding)}.")


def _upload_of(view: Callable[..., Any]) -> _Upload | None:
    return cast(_Upload | None, getattr(view, _UPLOAD, None))


def _is(upload: _Upload, content_type: str) -> bool:
    return upload.media_type is None or content_type.partition(";")[0].strip().lower() == upload.media_type
