"""``POST /messages`` as nearly every client writes it, begun without the framework, where more than half of what a request costs is spent.

``begin`` returns None for any unusual request; Flask then handles it. Unusual is a header that is not listed, a key that must be looked up, a limit
that is reached, anything that is wrong. So this only ever says yes, and what is refused is refused in one place.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError
from marshmallow.fields import String

from mailbbgun.accept.accept import Accepting, Acceptor
from mailbbgun.accept.api import answer, answered
from mailbbgun.accept.fields import SHAPES, Fields, Options, Texts, name_in_json, parted
from mailbbgun.accept.schema import OPTIONAL, NewMessage, without_blanks
from mailbbgun.core import addresses
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.core.hosts import Hosts
from mailbbgun.http.gate import AuthenticatorContract, Limiter, admitted, counted
from mailbbgun.http.web import PendingResponse, parse_object, ready
from mailbbgun.settings.settings import Settings

_REQUEST = re.compile(
    rb"POST /messages HTTP/1\.1\r\n((?:[A-Za-z][A-Za-z-]*:[ -~]*\r\n)+)\r\n"
)  # linear: nothing matches in two ways
_JSON = ("application/json", "application/json; charset=utf-8")
# What these say is heard below, or changes nothing; of any other we do not know. Origin is not here: a browser's request takes the whole way.
_HEADERS = frozenset(
    "host content-length content-type connection authorization idempotency-key "  # noqa: SIM905
    "user-agent accept accept-encoding accept-language cache-control pragma referer traceparent tracestate x-request-id".split()
)
LONGEST = 4096  # characters of a header line; gunicorn, and what it is told, take more
# Fields whose values need no schema, if they are of that type: by their names in JSON, the names in Python.
_PLAIN = [(name, type(shape)) for name, shape in SHAPES.items() if not shape.validators]
_STRINGS = {name_in_json(name): name for name, kind in _PLAIN if kind is String}
_STRINGS["message_id"] = "message_id_header"  # its old name
_TEXTS = frozenset(name for name, kind in _PLAIN if kind is Texts)
_TEXTS_TO = frozenset({"to", "cc", "bcc"})
#: Fields of a body, and entries of its lists and objects, at most: each that is wrong takes 60 µs to say so.
MOST_ENTRIES = 300
#: Characters of addresses with international domains, at most: each address takes 30 µs to check, in some scripts 1 ms.
MOST_FOREIGN = 400
#: Characters of all addresses, at most.
MOST_ADDRESSES = 10_000
_SCHEMA = NewMessage()


@dataclass(frozen=True, slots=True)
class Begun:
    """A message that is accepted as soon as ``ending`` has ended."""

    ending: Accepting
    address: str  # of all messages
    limits: Mapping[str, str]  # headers that tell of them
    who: Caller

    def answer(self) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of the answer, which is 201. Only once it has ended."""
        value, headers = answered(self.ending.result(), self.address)
        return ready(value, {**headers, **self.limits})

    def pending(self, app: Any) -> PendingResponse:
        """Return what the application makes an answer of, whatever it is."""
        pending = PendingResponse(self.ending, lambda: answer(self.ending.result(), self.address), app, self.who)
        pending.more = self.limits
        return pending


class Quick:
    """Begins what it may."""

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
        """Return a message on its way, of a whole request from that IP address; None if the framework is to have it. Waits for nobody."""
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
            if _takes_long(given):
                return None
            submission, options = submission_of(given)
            ending = self._acceptor.accept(submission, who, options.once(headers.get("idempotency-key")))
        except (MailBBGunError, ValidationError):
            return None
        # Last: what is refused for something else is counted there.
        limits = counted(self._limiter, who)
        return None if limits is None else Begun(ending, f"{address}/messages", limits, who)


def submission_of(given: Mapping[str, Any]) -> tuple[Fields, Options]:
    """Return what the schema makes of a body. Raises :class:`ValidationError`."""
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
    """Say whether to check a body would keep others waiting: one of many entries, or of many international addresses."""
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
