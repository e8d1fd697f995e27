"""Decides which hosts this service answers for, and which web pages may change something here.

A hostile web page has two ways to reach this service through a browser:

* Its site gives its own host name the address 127.0.0.1 (DNS rebinding). The Host header of such a
  request names that site. So without AUTH_REQUIRED a request is served only if its Host is ours.
* It sends requests to our real address. The browser then says in Origin and Sec-Fetch-Site which
  page sends them (RFC 6454 §7, W3C Fetch Metadata §2.4).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self
from urllib.parse import urlsplit

#: The longest Host, in characters: a DNS name (RFC 1035 §2.3.4), a dot, a colon and a port.
LONGEST = 253 + 8
#: How many characters of a foreign host an error shows.
SHOWN = 100
#: How many results about Hosts each process keeps.
REMEMBERED = 256
#: The ports that browsers leave out.
PORTS = {"http": 80, "https": 443}
#: Values of Sec-Fetch-Site for our own pages, and for an address that a person typed.
SAME = frozenset({"same-origin", "none"})

_LABELS = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
#: User and password, as far as the last @: people forget to quote an @ in a password.
_LOGIN = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_SHOWN = re.compile(r"(?:https?://)?(?:\[[^\]]*\]|[^:/?#\\]*)(?::[0-9]{1,5}(?=$|[/?#\\]))?", re.IGNORECASE)
_HOST = re.compile(rf"(?:(?P<name>{_LABELS})\.?|\[(?P<literal>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{{0,5}}))?")


def without_login(text: str) -> str:
    """Return a host or a URL without the user and password before its last ``@``."""
    return _LOGIN.sub(r"\1", text)


def shown(text: str) -> str:
    """Return the host and port of a Host or an Origin, for an error: no user, no password, no path.

    It is cut to :data:`SHOWN` characters, and ends in "…" if something after it was left out.
    """
    whole = without_login(text.strip())
    found = _SHOWN.match(whole)
    host = found[0] if found else ""
    return host if host == whole and len(host) <= SHOWN else f"{host[:SHOWN]}…"


class ServedHost(NamedTuple):
    """A host as a request names it: a name in lower case or an IP address, and perhaps a port."""

    name: str
    port: int | None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the value of a Host header (RFC 9110 §7.2). Raises :class:`ValueError`."""
        wrong = f"{shown(text)!r} is not a host like mail.example.com or 192.0.2.1:5000"
        if "@" in text:
            wrong += ": a user or password before it is not allowed"
        found = _HOST.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            raise ValueError(wrong)
        try:
            name = found["name"].lower() if found["name"] else str(IPv6Address(found["literal"]))
        except ValueError as error:
            raise ValueError(wrong) from error
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"{shown(text)!r} has an invalid port: it must be from 1 to 65535")
        return cls(name, port)

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The IP address; None if the host is a name."""
        try:
            return ip_address(self.name)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        """Whether the host is localhost, a name below it (RFC 6761 §6.3), 127.0.0.0/8 or ::1."""
        ip = self.ip
        if ip is None:
            return self.name == "localhost" or self.name.endswith(".localhost")
        return ip.is_loopback or bool(isinstance(ip, IPv6Address) and ip.ipv4_mapped and ip.ipv4_mapped.is_loopback)


class Pattern(NamedTuple):
    """An entry of ALLOWED_HOSTS. ``port`` None: any port."""

    name: str
    port: int | None
    below: bool  # the pattern stands for all names below this one, and not for itself

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an entry; raises :class:`ValueError`.

        An entry is like ``mail.example.com``, ``mail.example.com:8443``, ``192.0.2.1``,
        ``[2001:db8::1]`` or ``*.example.com``.
        """
        below = text.startswith("*.")
        try:
            host = ServedHost.read(text.removeprefix("*."))
        except ValueError:
            host = None
        if host is None or (below and host.ip is not None):
            raise ValueError(
                f"{without_login(text)!r} is not a host like mail.example.com, mail.example.com:8443 or *.example.com"
            )
        return cls(host.name, host.port, below)

    def matches(self, host: ServedHost) -> bool:
        """Return whether it stands for this host. A host without a port has port 80 or 443."""
        named = host.name.endswith(f".{self.name}") if self.below else host.name == self.name
        return named and (
            self.port is None or host.port == self.port or (host.port is None and self.port in PORTS.values())
        )


def public_url(text: str) -> str:
    """Return a URL like ``https://mail.example.com/path`` without a slash at its end.

    Raises :class:`ValueError` for any other kind of text.
    """
    parts = urlsplit(text)
    if "@" in text:
        raise ValueError(
            f"{without_login(text)!r} is not an address like https://mail.example.com: "
            "a user or password before the host is not allowed"
        )
    if parts.scheme not in PORTS or parts.query or parts.fragment or not re.fullmatch(r"[!-~]*", text):
        raise ValueError(f"{text!r} is not an address like https://mail.example.com")
    ServedHost.read(parts.netloc)
    return text.rstrip("/")


class Hosts:
    """Knows which hosts are ours, and which requests come from pages of other sites."""

    def __init__(self, *, any_served: bool, allowed: Sequence[str] = (), public: str = "") -> None:
        """Serve any host if ``any_served``; else loopback, ``allowed``, and the host of ``public``.

        ``allowed`` are patterns, ``public`` is a URL.
        """
        self._any_served = any_served
        self._patterns = [Pattern.read(text) for text in allowed]
        self._public = public_url(public) if public else ""
        if self._public:
            parts = urlsplit(self._public)
            host = ServedHost.read(parts.netloc)
            self._patterns += [
                Pattern(host.name, port, below=False) for port in (None, host.port or PORTS[parts.scheme])
            ]
        # Nearly all requests have the same few Hosts. Reading one takes a few microseconds.
        self.is_ours = lru_cache(maxsize=REMEMBERED)(self._is_ours)
        self.base = lru_cache(maxsize=REMEMBERED)(self._base)

    def serves(self, text: str | None, *, probe: bool = False) -> bool:
        """Return whether a request with this Host (None: it has none) is served.

        A ``probe`` (a health check) may name any IP address, or no host. Raises :class:`ValueError`
        if the Host is not valid.
        """
        if not text:
            return self._any_served or probe
        ours = self.is_ours(text)
        return ours or self._any_served or (probe and ServedHost.read(text).ip is not None)

    def _is_ours(self, text: str) -> bool:
        host = ServedHost.read(text)
        return host.is_loopback or any(one.matches(host) for one in self._patterns)

    def _base(self, scheme: str, text: str | None, root: str) -> str:
        """Return the beginning of URLs in an answer. ``root`` is the path that we are mounted at.

        It is PUBLIC_URL; without that, scheme and Host of the request if the Host is ours; else
        only the path, which a client resolves by itself (RFC 9110 §10.2.2). Raises
        :class:`ValueError` if the Host is not valid.
        """
        if self._public:
            return self._public
        if not text or not self.is_ours(text):
            return root
        scheme = scheme if scheme in PORTS else "http"  # a proxy may pass on a header that the client sent
        host = ServedHost.read(text)
        name = f"[{host.name}]" if ":" in host.name else host.name
        port = "" if host.port in (None, PORTS.get(scheme)) else f":{host.port}"
        return f"{scheme}://{name}{port}{root}"

    def foreign(self, text: str | None, origin: str | None, fetch_site: str | None) -> bool:
        """Return whether a browser sends this request on behalf of a page that is not ours.

        ``text``, ``origin`` and ``fetch_site`` are the headers Host, Origin and Sec-Fetch-Site;
        None: absent.
        """
        if fetch_site is not None and fetch_site.strip().lower() not in SAME:
            return True
        if origin is None:
            return False
        try:
            parts = urlsplit(origin.strip())
            page = ServedHost.read(parts.netloc)
            here = ServedHost.read(text) if text else None
        except ValueError:
            return True  # such as "null", the origin of a sandboxed page or a file (RFC 6454 §7.1)
        if parts.scheme not in PORTS or parts.path or parts.query or parts.fragment:
            return True
        same_port = _without_default(page.port) == (_without_default(here.port) if here else None)
        for one in self._patterns:
            if one.matches(page) and (one.port is not None or same_port or _without_default(page.port) is None):
                return False
        if here is None or page.name != here.name:
            return True
        # Behind a proxy that handles TLS, our scheme may differ from the page's. If the proxy also
        # drops the port, the ports differ. Then believe only a browser that said "same-origin".
        return not (same_port or fetch_site is not None)


def _without_default(port: int | None) -> int | None:
    return None if port in PORTS.values() else port
