"""What is refused before the application sees it, in the API's error shape."""

import json
import re
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as gunicorn_errors  # type: ignore[import-untyped]  # it has no types

from mailbbgun.base import web
from mailbbgun.base.web import SECURE
from mailbbgun.server.limits import Limits, Stage

#: A line feed without a carriage return before it.
BARE_LF = re.compile(rb"(?<!\r)\n")

_VERSION = re.compile(rb"[^\r\n]* HTTP/[0-9]\.[0-9]\r\n")

# The first that is found in a head explains why gunicorn's parser refused it.
_WHYS = (
    (BARE_LF, "A line of the head ends with a bare LF; every line must end with CR LF (RFC 9112 §2.2)."),
    (re.compile(rb"\r\n[ \t]"), "A header goes on in the next line (obsolete folding); write it in one line (RFC 9112 §5.2)."),
    (re.compile(rb"\r\n[^:\r\n]*[ \t]:"), "There is a space before the colon of a header; leave it out (RFC 9112 §5.1)."),
    (
        re.compile(rb"(?is)(?=.*\r\ncontent-length:)(?=.*\r\ntransfer-encoding:)"),
        "Content-Length and Transfer-Encoding are both given; send one of them (RFC 9112 §6.1).",
    ),
    (re.compile(rb"(?is)\r\n(content-length):.*\r\n\1:"), "Content-Length is given twice; send it once (RFC 9112 §6.3)."),
    (re.compile(rb"(?i)\r\ncontent-length:(?![ \t]*[0-9]+[ \t]*\r\n)"), "Content-Length is not a number of bytes, such as 42 (RFC 9110 §8.6)."),
    (re.compile(rb"(?i)\r\ntransfer-encoding:"), "Transfer-Encoding must be chunked, once, and HTTP/1.1 (RFC 9112 §6.1)."),
    (re.compile(rb"(?is)\r\n(host|content-type):.*\r\n\1:"), "Host or Content-Type is given twice; send it once (RFC 9110 §5.3)."),
)


class Refusal(Exception):
    """A request that is answered without the application, and ends its connection."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.phrase = HTTPStatus(status).phrase
        self.code = code or self.phrase.lower().replace(" ", "_").replace("-", "_")

    def response(self) -> bytes:
        """Return the whole answer."""
        error = {"status": self.status, "code": self.code, "message": self.message}
        body = json.dumps({"error": error}).encode() + b"\n"
        headers = {"Date": formatdate(usegmt=True), "Connection": "close", "Content-Type": "application/json"}
        headers |= {"Content-Length": str(len(body)), **SECURE}
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"HTTP/1.1 {self.status} {self.phrase}\r\n{lines}\r\n".encode("ascii") + body


def too_large(limit: int) -> Refusal:
    """Refuse a body over ``limit`` bytes."""
    return Refusal(413, web.too_large(limit), code="too_large")


def late(what: str, seconds: float) -> Refusal:
    """Refuse a request of which ``what`` has not come in time (RFC 9110 §15.5.9)."""
    return Refusal(408, f"The request's {what} did not come within {seconds:g} s.")


def late_body(moved: int, limits: Limits) -> Refusal:
    """Refuse a body of which the last ``moved`` bytes kept the pace, but took too long in all, or did not keep it (RFC 9110 §15.5.9)."""
    if moved >= limits.pace:
        return late("body", limits.transfer)
    return Refusal(408, f"The body came too slowly: less than {limits.pace} bytes in {limits.seconds[Stage.BODY]:g} s.")


def refusal_of(error: Exception, head: bytes) -> Refusal:
    """Say why gunicorn's parser refused a head, or a chunk of a body. An unknown error is raised again."""
    match error:
        case Refusal():
            return error
        case gunicorn_errors.LimitRequestLine():
            return Refusal(414, f"The request's first line is too long: {error}.")
        case gunicorn_errors.LimitRequestHeaders():
            return Refusal(431, f"A header is too large, or there are too many: {error}.")
        case gunicorn_errors.InvalidHTTPVersion() if _VERSION.match(head):
            return unknown_version()
        case gunicorn_errors.UnsupportedTransferCoding():
            return Refusal(501, f"{error}; the only transfer coding is chunked.")
        case gunicorn_errors.ExpectationFailed():
            return Refusal(417, f"{error}; the only expectation is 100-continue.")
        case gunicorn_errors.ParseException() | gunicorn_errors.NoMoreData():
            return Refusal(400, _explained(error, head))
        case _:
            raise error


def unknown_version() -> Refusal:
    """Refuse a version of HTTP that this server does not speak (RFC 9110 §15.6.6)."""
    return Refusal(505, "This server speaks HTTP/1.1 and HTTP/1.0.")


def _explained(error: Any, head: bytes) -> str:
    for pattern, why in _WHYS:
        if pattern.search(head):
            return why
    return f"{error}."
