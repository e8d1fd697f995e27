"""A short cut for ``POST /messages`` without Flask, which costs more than half of a request's time.

``begin`` returns None for any unusual request; Flask then handles it. A request is unusual if it has
a header that is not listed below, an API key that must be looked up, or any fault, or if a limit is
reached. So this module only accepts; all refusals are made in one place, behind Flask.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError
from marshmallow.fields import String

from mailbbgun.accept.accept import Accepting, Acceptor
from mailbbgun.accept.api import answer, answered
from mailbbgun.accept.fields import SHAPES, Fields, Options, name_in_json, parted
from mailbbgun.accept.schema import OPTIONAL, NewMessage, without_blanks
from mailbbgun.core import addresses
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.core.hosts import Hosts
from mailbbgun.http.gate import AuthenticatorContract, Limiter, admitted, counted
from mailbbgun.http.responses import PendingResponse, ready
from mailbbgun.http.schemas import Texts
from mailbbgun.http.strict_json import parse_object
from mailbbgun.settings.settings import Settings

# Takes linear time: no text matches in two ways.
_REQUEST = re.compile(rb"POST /messages HTTP/1\.1\r\n((?:[A-Za-z][A-Za-z-]*:[ -~]*\r\n)+)\r\n")
_JSON = ("application/json", "application/json; charset=utf-8")
# Headers that are read below or change nothing. A request with any other goes to Flask: also one with
# Origin, which browsers send.
_HEADERS = frozenset(
    "host content-length content-type connection authorization idempotency-key "  # noqa: SIM905
    "user-agent accept accept-encoding accept-language cache-control pragma referer traceparent tracestate "
    "x-request-id".split()
)
#: Characters of a header line, at most. Flask takes longer ones.
LONGEST = 4096
# Fields that need no schema if their value is of the right type: name in JSON → name in Python.
_PLAIN = [(name, type(shape)) for name, shape in SHAPES.items() if not shape.validators]
_STRINGS = {name_in_json(name): name for name, kind in _PLAIN if kind is String}
_STRINGS["message_id"] = "message_id_header"  # its old name
_TEXTS = frozenset(name for name, kind in _PLAIN if kind is Texts)
_TEXTS_TO = frozenset({"to", "cc", "bcc"})
# Fields for which something must be read, or stored.
_WAITING = ("attachments", "template", "unsubscribe", "track_opens", "track_clicks")
#: Fields of a body and entries of its lists and objects, at most: each fault takes 60 µs to report.
MOST_ENTRIES = 300
#: Characters of all addresses with international domains, at most: an address takes 30 µs to check, in
#: some scripts 1 ms.
MOST_FOREIGN = 400
#: Characters of all addresses, at most.
MOST_ADDRESSES = 10_000
_SCHEMA = NewMessage()


@dataclass(frozen=True, slots=True)
class Begun:
    """A message that is accepted as soon as ``ending`` has ended."""

    ending: Accepting
    #: The URL of all messages.
    address: str
    #: The headers about rate limits.
    limits: Mapping[str, str]
    who: Caller

    def answer(self) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of the answer 201. Call this only once ``ending`` has ended."""
        value, headers = answered(self.ending.result(), self.address)
        return ready(value, {**headers, **self.limits})

    def pending(self, app: Any) -> PendingResponse:
        """Return a pending response, of which Flask makes any answer, an error too."""
        pending = PendingResponse(self.ending, lambda: answer(self.ending.result(), self.address), app, self.who)
        pending.more = self.limits
        return pending


class Quick:
    """The short cut: begins usual requests and leaves all others to Flask."""

    def __init__(
        self,
        settings: Settings,
        acceptor: Acceptor,
        authenticator: AuthenticatorContract,
        limiter: Limiter,
        hosts: Hosts,
        database_found: Callable[[], bool],
    ) -> None:
        self._database_found = database_found
        self._settings = settings
        self._acceptor = acceptor
        self._authenticator = authenticator
        self._limiter = limiter
        self._hosts = hosts

    def begin(self, request: bytes, client: str) -> Begun | None:
        """Begin a whole request from the IP address ``client``; return None if Flask must handle it.

        Never waits.
        """
        found = _REQUEST.match(request)
        headers = _headers(found[1]) if found else None
        if (
            not found
            or headers is None
            or len(request) - found.end() > self._settings.MAX_BODY_SIZE
            or not self._database_found()
        ):
            return None
        try:
            if not self._hosts.serves(headers.get("host")):
                return None
            address = self._hosts.base("http", headers["host"], "")
        except (ValueError, KeyError):
            return None
        who = admitted(self._authenticator, Scope.WRITE, headers.get("authorization"), client)
        if who is None or (who.limited and (self._limiter.waits or not self._limiter.allows(who))):
            return None
        try:
            given = parse_object(request[found.end() :])
            if _takes_long(given) or any(given.get(name) for name in _WAITING):
                return None
            submission, options = submission_of(given)
            if submission.individual:
                return None
            options = options.with_key(headers.get("idempotency-key"))
            ending = self._acceptor.accept(submission, who, options, headers.get("traceparent"))
        except (MailBBGunError, ValidationError):
            return None
        # Counted last: Flask counts the requests that were left to it above.
        limits = counted(self._limiter, who)
        return None if limits is None else Begun(ending, f"{address}/messages", limits, who)


def submission_of(given: Mapping[str, Any]) -> tuple[Fields, Options]:
    """Return the submission and options in a body, as the schema does. Raises :class:`ValidationError`."""
    values: dict[str, Any] = {}
    given = without_blanks(given, OPTIONAL)
    for name, value in given.items():
        if name in _TEXTS and (
            isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))
        ):
            values[name] = [value] if isinstance(value, str) else value
        elif name in _STRINGS and isinstance(value, str) and _STRINGS[name] not in values:
            values[_STRINGS[name]] = value
        else:
            break
    else:
        if "subject" in values and not _TEXTS_TO.isdisjoint(values):
            return parted(values)
    loaded: tuple[Fields, Options] = _SCHEMA.load(given)
    return loaded


def _takes_long(given: Mapping[str, Any]) -> bool:
    """Say whether checking a body takes so long that other requests would wait."""
    entries = len(given) + sum(len(value) for value in given.values() if isinstance(value, list | dict))
    if entries > MOST_ENTRIES:
        return True
    listed = [given[name] if isinstance(given[name], list) else [given[name]] for name in _TEXTS if name in given]
    texts = [text for its in listed for text in its if isinstance(text, str)]
    foreign = sum(len(text) for text in texts if addresses.foreign(text))
    return foreign > MOST_FOREIGN or sum(map(len, texts)) > MOST_ADDRESSES


def _headers(lines: bytes) -> dict[str, str] | None:
    """Return headers by name in lower case; None if one is unusual."""
    headers: dict[str, str] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        lower = name.lower()
        if lower not in _HEADERS or lower in headers or len(line) > LONGEST:
            return None
        headers[lower] = value.strip(" ")
    usual = (
        headers.get("content-type", "").lower() in _JSON
        and headers.get("connection", "keep-alive").lower() == "keep-alive"
    )
    return headers if usual else None
