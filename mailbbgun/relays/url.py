"""Reads a server's URL: ``smtp://user:password@host:587?security=starttls``, or ``smtps://``."""

import ipaddress
import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote

from mailbbgun.core.errors import NotPermitted
from mailbbgun.core.net import hostname
from mailbbgun.smtp.endpoint import Endpoint, Security

FORM = "smtp://user:password@host:587?security=starttls|tls|none"
#: The port for each security, if the URL gives none.
PORTS: Mapping[Security, int] = {"starttls": 587, "tls": 465, "none": 25}

_ESCAPED = {"#": "%23", "/": "%2F", "?": "%3F", "@": "%40"}
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"[a-z_]{1,20}")


def usual_security(port: int | None) -> Security:
    """Return the security if none is given: TLS from the first byte on port 465, else STARTTLS.

    RFC 8314 §3.3.
    """
    return "tls" if port == PORTS["tls"] else "starttls"


def read(url: str, ca_file: str | None = None) -> Endpoint:
    """Return the endpoint of a URL; user name and password are percent-decoded.

    Raises ValueError if the URL is not exactly of that form. The error's text quotes no part of the
    URL that may be the password's.
    """
    scheme, separator, text = url.partition("://")
    if not separator or scheme.lower() not in ("smtp", "smtps"):
        raise ValueError(f"must be {FORM}")
    if why := _misread(text):
        raise ValueError(why)
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(
            "has a blank or a control character; in the user name or password it must be written as %XX, a blank as %20"
        )
    whole, rest = _authority(text)
    login, at, place = whole.rpartition("@")
    username, password = _login(login) if at else (None, "")
    host, port = _place(place)
    security = _security(rest, port, "tls" if scheme.lower() == "smtps" else None)
    return Endpoint(host, port or PORTS[security], security, username=username, password=password, ca_file=ca_file)


def _authority(text: str) -> tuple[str, str]:
    """Split what follows ``scheme://`` into ``user:password@host:port`` and the rest.

    The rest is empty, or begins with ``/`` or ``?``.
    """
    end = min((at for at in (text.find("/"), text.find("?")) if at >= 0), default=len(text))
    return text[:end], text[end:]


def _misread(text: str) -> str | None:
    """Return an error if a character of the password would change the host, else None.

    The error quotes nothing of the URL.
    """
    whole, rest = _authority(text)
    if "#" in text:
        found = "#"
    elif whole.count("@") > 1:
        found = "@"
    elif "@" in rest and "@" not in whole:
        found = rest[0]
    else:
        return None
    return (
        f"a {found} in the user name or password must be written {_ESCAPED[found]} (percent-encoded), "
        "or the rest is taken for another host"
    )


def _login(text: str) -> tuple[str, str]:
    username, _, password = text.partition(":")
    if not username or not password:
        raise ValueError("a user name needs a password, and a password a user name: smtp://user:password@host")
    return _decoded(username), _decoded(password)


def _decoded(text: str) -> str:
    if _PERCENT.search(text):
        raise ValueError("a % in the user name or password must be written %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:  # this error's text would quote the password
        raise ValueError("what is written as %XX in the user name or password must be UTF-8") from None


def _place(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        colon, port = after[:1], after[1:]
        if not bracket or not _is_v6(host) or colon not in ("", ":"):
            raise ValueError("what is in brackets must be an IPv6 address: smtp://[2001:db8::1]:587")
    elif _is_v6(text):
        raise ValueError("an IPv6 address stands in brackets: smtp://[2001:db8::1]:587")
    else:
        host, colon, port = text.partition(":")
    if not host:
        raise ValueError(f"has no host; it must be {FORM}")
    if colon and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65_536):
        # Of user:password without a host, the password stands where the port should be.
        raise ValueError("what follows the host and a colon must be a port from 1 to 65535")
    try:
        return hostname(host), int(port) if colon else None
    except NotPermitted:
        raise ValueError("the host is neither a host name nor an IP address") from None


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _security(rest: str, port: int | None, implied: Security | None) -> Security:
    path, _, query = rest.partition("?")
    if path not in ("", "/"):
        raise ValueError("nothing but ?security=starttls|tls|none may follow the host and port")
    given: str | None = None
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name != "security" or given is not None:
            shown = name if name != "security" and _NAME.fullmatch(name) else "something else, or security twice,"
            raise ValueError(f"{shown} follows the ?, where only security=starttls|tls|none may stand, once")
        given = value.lower()
    if given is None:
        return implied or usual_security(port)
    if given not in PORTS:
        raise ValueError("security must be starttls, tls or none")
    if implied and given != implied:
        raise ValueError(f"smtps:// is TLS from the first byte; write smtp:// for security={given}")
    return cast(Security, given)
