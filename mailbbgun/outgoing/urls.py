"""Reads URLs that tenants name, and judges their hosts.

The parts of a URL are read once, here. Connections are made from these parts, never from the text: two readers of
one URL may find two hosts in it.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from mailbbgun.core.errors import InvalidInput, NotPermitted
from mailbbgun.core.hosts import PORTS, without_login
from mailbbgun.core.net import Guard

#: Ports of web servers that any tenant may name. ALLOW_PRIVATE_HOSTS permits others.
WEB_PORTS = frozenset({80, 443, 8080, 8443})
#: Most characters of a URL.
LONGEST = 2000

#: The characters of a URL (RFC 3986 §2), without # since a fragment is never sent, and without \, which
#: some readers take for /.
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
_PORT = re.compile(r"[0-9]{1,5}")


class Target(NamedTuple):
    """The parts of a URL that a request needs."""

    secure: bool  # by TLS
    host: str  # as core/net.py writes hosts
    port: int
    path: str  # with the query


def target(url: str, guard: Guard) -> Target:
    """Read a URL and judge its host and port, without asking the DNS.

    Raises :class:`InvalidInput` with a sentence that says what is wrong with this URL and what would be right;
    :class:`NotPermitted`, one of its kind, if we do not connect there.
    """
    if len(url) > LONGEST:
        raise InvalidInput(f"The URL has {len(url)} characters; {LONGEST} is the most.")
    if not url.lower().startswith(("https://", "http://")):
        raise InvalidInput(f"{_shown(url)} does not begin with https:// or http://.")
    wrong = _wrong_character(url)
    if wrong is not None:
        raise InvalidInput(f"{_shown(url)} has the character {wrong!r}, which a URL writes as a code such as %20.")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        place = parts.netloc.rpartition("]")[2] if "]" in parts.netloc else parts.netloc
    except ValueError as error:
        raise InvalidInput(f"{_shown(url)} has no host name that can be read.") from error
    if "@" in parts.netloc:
        raise InvalidInput(f"{_shown(url)} has a user name in it. Requests are signed; they need none.")
    _, colon, port = place.partition(":")
    if colon and not _PORT.fullmatch(port):
        raise InvalidInput(f"{_shown(url)} has the port {port!r}; a port is a number from 1 to 65535.")
    number = int(port) if colon else PORTS[parts.scheme]
    name = guard.check(host, number)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", name, number, path)


def why_refused(url: str, guard: Guard) -> str | None:
    """Return what is wrong with a URL, for the person who wrote it; None if requests may be sent there."""
    try:
        target(url, guard)
    except NotPermitted as error:
        return f"{error}."
    except InvalidInput as error:
        return str(error)
    return None


def _wrong_character(url: str) -> str | None:
    found = _CHARACTERS.match(url)
    end = found.end() if found else 0
    return url[end] if end < len(url) else None


def _shown(url: str) -> str:
    """Return a URL for an error, without its password and not too long."""
    text = without_login(url)
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
