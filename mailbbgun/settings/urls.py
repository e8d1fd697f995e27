"""Checks the URLs of servers in settings.

The sentences about a wrong URL show nothing of it but its scheme, because there may be a password
in it.
"""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.-]*(?=(\+[A-Za-z0-9.-]+)?:)")
_ESCAPES = "in a user name or password write # as %23, / as %2F, : as %3A, ? as %3F, @ as %40, [ as %5B"


def scheme_of(url: str) -> str:
    """Return the scheme without a driver: ``postgresql`` of ``postgresql+psycopg2://…``; or ""."""
    found = _SCHEME.match(url)
    return found[0].lower() if found else ""


def fault_of(url: str, schemes: Collection[str]) -> str:
    """Return what is wrong with a URL that must have one of these schemes; "" if nothing is."""
    scheme = scheme_of(url)
    if scheme not in schemes:
        shown = f", not {scheme}:" if scheme and "://" in url[: len(scheme) + 30] else ""
        return f"must begin with {' or '.join(f'{one}:' for one in schemes)}{shown}"
    if any(not character.isprintable() for character in url):
        return "has a character that cannot be printed, a line break for example"
    if scheme in ("embedded", "catcher", "mx"):
        return "" if url.partition(":")[2] in ("", "//") else f"must be {scheme}: and nothing else"
    if scheme.startswith("smtp"):
        return ""  # relays/url.py checks the rest
    if scheme in ("file", "s3"):
        return ""  # blobs/url.py checks the rest
    return _fault_of_file(url) if scheme == "sqlite" else _fault_of_server(url)


def _fault_of_file(url: str) -> str:
    path, asked, options = url.partition(":")[2].partition("?")
    if asked:
        name = re.split("[=&]", options)[0][:40]
        return f"has the option {name!r}, and SQLite gets none here; a ? in the path is written %3F"
    if not path.startswith("///") or len(path) == 3:
        return "must be sqlite:/// and a path, with four slashes if the path is absolute"
    if path[3:] == ":memory:":
        return "must name a file: what is in memory no other process can read"
    return ""


def _fault_of_server(url: str) -> str:
    _, _, rest = url.partition(":")
    if not rest.startswith("//"):
        return "is not a URL: after the scheme come :// and the host"
    if "#" in rest:
        return f"has a # in it, where a URL ends: {_ESCAPES}"
    authority, _, after = rest[2:].partition("/")
    if authority.count("@") > 1 or "@" in after.partition("?")[0]:
        return f"has more than one @, or one after a /: {_ESCAPES}"
    if "?" in authority and "@" in authority.partition("?")[2]:
        return f"has a ? before its @: {_ESCAPES}"
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2]
        if " " in hosts:
            return "has a blank in its host"
        for host in hosts.split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return f"is not a URL: the port must be a number from 0 to 65535, an IPv6 address in brackets, and {_ESCAPES}"
    return ""
