"""Refuses requests before the application sees them, in the API's error shape."""

import json
import re
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http import HTTPStatus

from gunicorn.http import errors as gunicorn_errors  # type: ignore[import-untyped]  # it has no types
from gunicorn.http.message import (  # type: ignore[import-untyped]  # nor has this
    RFC9110_5_3_SINGLETON_FIELDS,
    RFC9110_6_5_1_FORBIDDEN_TRAILER,
)

from mailbbgun.http import error_responses
from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.http.responses import SECURE
from mailbbgun.server.client_limits import ServerLimits, Stage

#: A line feed without a carriage return before it.
BARE_LF = re.compile(rb"(?<!\r)\n")

_VERSION = re.compile(rb"[^\r\n]* HTTP/[0-9]\.[0-9]\r\n")
_SPACE_BEFORE_COLON = re.compile(rb"[^:]*[ \t]:")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 §5.5
_DIGITS = re.compile(rb"[ \t]*[0-9]{1,18}[ \t]*")

# The part of a header that a sentence may repeat: the name before its first blank or colon. Keys
# and passwords have other characters, or are longer.
_NAME = re.compile(rb"[A-Za-z][A-Za-z-]{0,59}(?=[ \t:])")

#: Codes of statuses whose phrase differs between versions of Python. Our codes must not.
_CODES = {414: "request_uri_too_long"}

#: Bytes of a head that are searched for the reason why gunicorn's parser refused it.
EXPLAINED = 8192

# Sentences for errors of gunicorn's parser that the head does not explain. gunicorn's own texts
# repeat what was sent: that may be a secret, and of any length. These repeat nothing.
_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (
        gunicorn_errors.InvalidRequestLine,
        "The first line of a request is a method, a path, and a version, such as GET /health HTTP/1.1 (RFC 9112 §3).",
    ),
    (
        gunicorn_errors.InvalidRequestMethod,
        "A request begins with a method of 3 to 20 capital letters, such as GET or POST (RFC 9110 §9).",
    ),
    (
        gunicorn_errors.InvalidHTTPVersion,
        "Invalid HTTP Version at the end of the first line; write HTTP/1.1 (RFC 9112 §2.3).",
    ),
    (
        gunicorn_errors.InvalidSchemeHeaders,
        "The headers that say whether the client used TLS contradict each other; send one.",
    ),
)
_UNEXPLAINED = (
    "A header is wrong, or given twice; each is a name, a colon, and a value of printable characters (RFC 9112 §5)."
)


class Refusal(Exception):
    """The refusal of a request, without the application. It ends the connection."""

    def __init__(self, status: int, message: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        """``retry_after``: seconds after which the same request may succeed."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.phrase = HTTPStatus(status).phrase
        self.code = code or _CODES.get(status) or self.phrase.lower().replace(" ", "_").replace("-", "_")

    def response(self) -> bytes:
        """Return the whole response."""
        error = {"status": self.status, "code": self.code, "message": self.message}
        body = json.dumps({"error": error}).encode() + b"\n"
        headers = {"Date": formatdate(usegmt=True), "Connection": "close", "Content-Type": "application/json"}
        headers |= {"Content-Length": str(len(body)), **SECURE}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"HTTP/1.1 {self.status} {self.phrase}\r\n{lines}\r\n".encode("ascii") + body


def too_large(limit: BodyLimit) -> Refusal:
    """Refuse a body over its limit."""
    return Refusal(413, error_responses.too_large(limit), code="too_large")


def late(what: str, seconds: float) -> Refusal:
    """Refuse a request whose ``what``, head or body, did not come in time (RFC 9110 §15.5.9)."""
    return Refusal(408, f"The request's {what} did not come within {seconds:g} s.")


def late_body(moved: int, limits: ServerLimits) -> Refusal:
    """Refuse a body that came too slowly, or took too long in all (RFC 9110 §15.5.9).

    ``moved``: its bytes since it last kept the pace.
    """
    if moved >= limits.pace:
        return late("body", limits.transfer)
    return Refusal(408, f"The body came too slowly: less than {limits.pace} bytes in {limits.seconds[Stage.BODY]:g} s.")


def refusal_of(error: Exception, head: bytes) -> Refusal:
    """Say why gunicorn's parser refused a head. Repeats only names of headers.

    Raises an unknown error again.
    """
    match error:
        case Refusal():
            return error
        case gunicorn_errors.LimitRequestLine():
            return Refusal(414, "The request's first line is too long.")
        case gunicorn_errors.LimitRequestHeaders():
            return Refusal(431, "A header is too large, or there are too many.")
        case gunicorn_errors.InvalidHTTPVersion() if _VERSION.match(head):
            return unknown_version()
        case gunicorn_errors.UnsupportedTransferCoding():
            return _unknown_coding()
        case gunicorn_errors.ExpectationFailed():
            return Refusal(
                417, "Expect names an expectation that this server does not know; the only one is 100-continue."
            )
        case gunicorn_errors.ParseException() | gunicorn_errors.NoMoreData():
            return Refusal(400, _explained(error, head[:EXPLAINED]))
        case _:
            raise error


def refusal_of_trailers(error: Exception) -> Refusal:
    """Say why gunicorn's parser refused the trailers of a body. Raises an unknown error again.

    Repeats only known names: if a chunk's size is wrong, a piece of the body stands there.
    """
    match error:
        case gunicorn_errors.LimitRequestHeaders():
            return Refusal(431, "A trailer after the last chunk is too large, or there are too many.")
        case gunicorn_errors.InvalidHeaderName() if error.hdr in RFC9110_6_5_1_FORBIDDEN_TRAILER:
            return Refusal(400, f"{error.hdr} must not be a trailer; send it in the head (RFC 9110 §6.5.1).")
        case gunicorn_errors.ParseException() | gunicorn_errors.NoMoreData():
            return Refusal(400, "A trailer after the last chunk is not a name, a colon, and a value (RFC 9112 §7.1.2).")
        case _:
            raise error


def unknown_version() -> Refusal:
    """Refuse a version of HTTP that this server does not speak (RFC 9110 §15.6.6)."""
    return Refusal(505, "This server speaks HTTP/1.1 and HTTP/1.0.")


def check_transfer_coding(headers: Iterable[tuple[str, str]]) -> None:
    """Refuse a transfer coding beside chunked, such as gzip (RFC 9112 §6.1): nobody would undo it.

    gunicorn's parser accepts some before chunked. Raises :class:`Refusal`.
    """
    codings = [value.strip(" \t").lower() for name, value in headers if name == "TRANSFER-ENCODING"]
    if codings != ["chunked"]:
        raise _unknown_coding()


def _unknown_coding() -> Refusal:
    return Refusal(
        501, "Transfer-Encoding names a transfer coding that this server does not know; the only one is chunked."
    )


def _explained(error: Exception, head: bytes) -> str:
    """Return the first reason that is found. The search takes linear time."""
    if BARE_LF.search(head):
        return "A line of the head ends with a bare LF; every line must end with CR LF (RFC 9112 §2.2)."
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence
    headers = head.split(b"\r\n")[1:-1]  # the last line is an empty one, or was cut off
    return next(_reasons(headers), _UNEXPLAINED)


def _reasons(headers: list[bytes]) -> Iterator[str]:
    for line in headers:
        if line.startswith((b" ", b"\t")):
            yield "A header goes on in the next line (obsolete folding); write it in one line (RFC 9112 §5.2)."
    for line in headers:
        if _SPACE_BEFORE_COLON.match(line):
            yield "There is a space before the colon of a header; leave it out (RFC 9112 §5.1)."
    yield from _wrong_lengths(headers)
    yield from _wrong_headers(headers)


def _wrong_lengths(headers: list[bytes]) -> Iterator[str]:
    lengths = [
        value for line in headers for name, _, value in [line.partition(b":")] if name.lower() == b"content-length"
    ]
    codings = [line for line in headers if line.lower().startswith(b"transfer-encoding:")]
    if lengths and codings:
        yield "Content-Length and Transfer-Encoding are both given; send one of them (RFC 9112 §6.1)."
    if len(lengths) > 1:
        yield "Content-Length is given twice; send it once (RFC 9112 §6.3)."
    if any(not _DIGITS.fullmatch(value) for value in lengths):
        yield "Content-Length is not a number of bytes, such as 42 (RFC 9110 §8.6)."


def _wrong_headers(headers: list[bytes]) -> Iterator[str]:
    """Yield what is wrong with each header.

    At the end, yield the remaining reason for a refusal.
    """
    seen = set()
    for line in headers:
        name, colon, value = line.partition(b":")
        known = _NAME.match(line)
        who = f"The header {known[0].decode()}" if known else "A header"
        if not line:
            continue  # the end of the head
        if not colon or not name:
            yield f"{who} has no colon between its name and its value; write it like Host: example.com (RFC 9112 §5)."
        if not _TOKEN.fullmatch(name):
            yield f"{who} has a name with other characters than letters, digits and - (RFC 9110 §5.1)."
        if _CONTROL.search(value):
            yield f"{who} has a control character in its value; leave it out (RFC 9110 §5.5)."
        upper = name.decode("latin-1").upper()
        if upper in RFC9110_5_3_SINGLETON_FIELDS and upper in seen:
            yield f"{who} is given twice; send it once (RFC 9110 §5.3)."
        seen.add(upper)
    if "TRANSFER-ENCODING" in seen:
        yield "Transfer-Encoding must be chunked, once, and HTTP/1.1 (RFC 9112 §6.1)."
