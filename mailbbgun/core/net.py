"""The guard of hosts that tenants name: which of them we connect to, at which addresses and ports (SSRF).

What counts is the address that is connected to, never the look of a name. So a name is resolved once, what it resolves to is judged, and only
what was judged is handed out to be connected to: a DNS that answers differently the next time (rebinding) is not asked a next time.

Of several addresses those that are not permitted are left out, and the host is refused when none is left. To refuse it for one bad address
would be no safer, as only judged ones are connected to, and would shut out hosts that have an inner address beside the public one.

The rules are our own: `is_global` of `ipaddress` calls NAT64, 6to4, site-local and multicast addresses global, as it does `::127.0.0.1`.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import idna

from mailbbgun.core.errors import NotPermitted
from mailbbgun.core.hosts import without_login

SMTP_PORTS = frozenset({25, 465, 587, 2525})
"""Where mail is handed in: relay, submission over TLS (RFC 8314 §3.3), submission (RFC 6409), and what providers offer where 25 is blocked."""

MAX_ADDRESSES = 10
"""Addresses of one host that are tried. A tenant's own DNS may name thousands."""

SETTING = "ALLOW_PRIVATE_HOSTS"  # what errors name: it permits hosts that are not public, and other ports
ANY = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Sequence[str]]
"""From a host and a port to IP addresses. Raises OSError or UnicodeError."""

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(
    r"(.*\.)?([0-9]+|0x[0-9a-f]*)"
)  # inet_aton(3), and so getaddrinfo, reads these as addresses: 127.1, 0x7f000001

_NOT_PUBLIC_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791 §3.2); Linux takes 0.0.0.0 for itself
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598), where Alibaba keeps its metadata
        "127.0.0.0/8",  # loopback (RFC 1122 §3.2.1.3)
        "168.63.129.16/32",  # Azure's host, reached from each of its machines
        "169.254.0.0/16",  # link-local (RFC 3927), where clouds keep metadata
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890); Oracle keeps metadata here
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.31.196.0/24",  # AS112 (RFC 7535)
        "192.52.193.0/24",  # AMT (RFC 7450)
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "192.175.48.0/24",  # AS112 (RFC 7534)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved (RFC 1112 §4), broadcast
    )
]

# All that was ever given out for public use (RFC 4291 §2.4). Outside are loopback, v4-compatible, link- and site-local, ULA, multicast,
# SIIT, discard, SRv6, and what nobody knows yet.
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments (RFC 2928): Teredo, which carries any IPv4 address, benchmarks, ORCHID
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 7526: historic), which carries any IPv4 address
        "2620:4f:8000::/48",  # AS112 (RFC 7534)
        "3fff::/20",  # documentation (RFC 9637)
    )
]

# RFC 6052 §2.1. On a network with IPv6 alone this is how mail servers with IPv4 alone are reached, so the IPv4 address is judged. The
# 64:ff9b:1::/48 of RFC 8215 is for private use and holds it at a place that only its owner knows: not permitted.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def permitted(address: str) -> bool:
    """Whether a stranger may have us connect to this IP address: it is a public unicast one. False also for what is no IP address."""
    try:
        ip = _plain(ipaddress.ip_address(address))
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    # A zone (RFC 4007 §11) chooses an interface of ours; no public address needs one.
    return ip in _PUBLIC_V6 and ip.scope_id is None and not any(ip in network for network in _NOT_PUBLIC_V6)


def ours(address: str) -> bool:
    """Whether an IP address is this machine's own: what it would be connected to from, or could be bound to.

    No packet is sent for that. Of a second address of a network the first says nothing; where any address may be bound
    (``ip_nonlocal_bind``) the second does not.
    """
    try:
        own = str(_plain(ipaddress.ip_address(address)))
    except ValueError:
        return False
    family, nobodys = (
        (socket.AF_INET6, "2001:db8::1") if ":" in own else (socket.AF_INET, "192.0.2.1")
    )  # RFC 3849, RFC 5737
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((own, 9))
            if probe.getsockname()[0] == own:
                return True
    except OSError:  # no way there; connecting will tell
        pass
    return _may_be_bound(family, own) and not _may_be_bound(family, nobodys)


def _may_be_bound(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def hostname(host: str) -> str:
    """Return a host as it is to be kept, shown, resolved and looked for in a certificate: a name in lower case and ASCII (IDNA 2008 by UTS 46), or
    an IP address in its one usual spelling.

    One dot at the end of a name is taken off. Raises :class:`NotPermitted` for what is neither: brackets, ports, user names, white space, zones, and
    the numbers that C libraries read as addresses, in whatever script they are written.
    """
    if (address := _address(host)) is not None and "%" not in host:
        return str(address)
    name = host
    if len(host) <= 253 and not host.isascii():
        try:
            name = idna.encode(host, uts46=True).decode()
        except UnicodeError as error:  # idna.IDNAError is one
            raise _no_host(host) from error
    name = name.lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        raise _no_host(host)
    return name


def system_look_up(host: str, port: int) -> tuple[str, ...]:
    """The IP addresses of ``host`` by the system's resolver, whose own time limits apply, best first (RFC 6724). Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Allowed:
    """What ``ALLOW_PRIVATE_HOSTS`` says: names and networks that are permitted all the same, on any port."""

    everything: bool = False
    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> "Allowed":
        """Read networks (an address is one of its own), host names and ``*``. Raises ValueError naming the first that is none of these."""
        names, networks, everything = set(), [], False
        for entry in entries:
            if entry == ANY:
                everything = True
            elif (network := _network(entry)) is not None:
                networks.append(network)
            else:
                try:
                    names.add(hostname(entry))
                except NotPermitted as error:
                    raise ValueError(f"{entry!r} is no network (10.0.0.0/8), address, host name or {ANY}") from error
        return cls(everything, frozenset(names), tuple(networks))

    def name(self, name: str) -> bool:
        """Whether a host is allowed whatever it resolves to."""
        return self.everything or name in self.names

    def address(self, address: str) -> bool:
        """Whether an IP address is. False also for what is none."""
        ip = _address(address)
        return ip is not None and (
            self.everything or any(_plain(ip) in network or ip in network for network in self.networks)
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """Who stands between a tenant's host and the network. Hashable, and equal to one with the same rules.

    ``ports`` are those that anybody may name, ``allowed`` what the operator permits beyond, ``look_up`` what resolves names. Every method takes
    the host as the tenant wrote it and raises :class:`NotPermitted`, whose text is for that tenant: it does not tell what a name resolves to.
    """

    ports: frozenset[int] = SMTP_PORTS
    allowed: Allowed = Allowed()
    look_up: LookUp = system_look_up

    def check(self, host: str, port: int) -> str:
        """Judge what can be without the DNS, as when an account is saved; return the host as `hostname` does. It does not replace `addresses`."""
        name = hostname(host)
        if not 0 < port < 65_536:
            raise NotPermitted(f"{port} is not a port", about="port")
        if _address(name) is not None:
            self._demand(name, [name], port)
        elif name.rpartition(".")[2] == "localhost":  # RFC 6761 §6.3: always a loopback address
            self._demand(name, ["127.0.0.1", "::1"], port)
        elif port not in self.ports and not self.allowed.networks and not self.allowed.name(name):
            raise self._no_port(name, port)
        return name

    def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Resolve a host once and return the permitted ones of its IP addresses, best first, at least one and at most `MAX_ADDRESSES`.

        Connect to these and to nothing else. Raises OSError or UnicodeError where the look-up does.
        """
        name = self.check(host, port)
        return self._demand(name, [name] if _address(name) is not None else self.look_up(name, port), port)

    def check_peer(self, host: str, port: int, peer: str, own: str) -> None:
        """Judge a connection that was made, before a byte goes over it: ``peer`` is the IP address at its other end, ``own`` that of ours.

        The kernel has the last word on where an address leads, and one that leads back to this machine is a loopback by another name.
        """
        name = hostname(host)
        self._demand(name, [peer], port)
        if peer == own and not self._allows(name, peer):
            raise _no_address(name)

    def reachable(self, host: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """Return those of a host's IP addresses that are connected to where a recipient's domain names the host, in their order.

        They are public and not this machine's own, or the operator allows the host or the address. ``host`` may be any name of the DNS.
        """
        named = self.allowed.name(host.lower().removesuffix("."))
        return tuple(
            one for one in addresses if named or self.allowed.address(one) or (permitted(one) and not ours(one))
        )

    def _demand(self, name: str, addresses: Iterable[str], port: int) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(addresses))
        kept = tuple(one for one in found if self._permits(name, one, port))
        if kept:
            return kept[:MAX_ADDRESSES]
        raise _no_address(name) if port in self.ports else self._no_port(name, port)

    def _permits(self, name: str, address: str, port: int) -> bool:
        return (port in self.ports and permitted(address)) or self._allows(name, address)

    def _allows(self, name: str, address: str) -> bool:
        return self.allowed.name(name) or self.allowed.address(address)

    def _no_port(self, name: str, port: int) -> NotPermitted:
        """Return the error of a port; it also names what is wrong with a host of which that is seen without the DNS."""
        why = f"port {port} is not permitted: only {', '.join(map(str, sorted(self.ports)))} are"
        private = name.rpartition(".")[2] == "localhost" or (_address(name) is not None and not permitted(name))
        if private:
            return NotPermitted(
                f"{why}, and {name} is no public host; {SETTING} can permit it, on any port", about="port"
            )
        return NotPermitted(f"{why}, unless {SETTING} permits the host", about="port")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _plain(ip: Address) -> Address:
    """The IPv4 address that a packet to this IPv6 address goes to, where that is certain: mapped (RFC 4291 §2.5.5.2) or by NAT64."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is None:
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def _no_address(name: str) -> NotPermitted:
    return NotPermitted(f"{name}: no public address, and no other is permitted by {SETTING}", about="host")


def _no_host(host: str) -> NotPermitted:
    return NotPermitted(f"{without_login(host)[:80]!r} is neither a host name nor an IP address", about="host")


def network_of(address: str | None) -> str:
    """Return what is counted as one stranger: an IPv4 address, or the /64 of an IPv6 one, of which anybody has all (RFC 6177 §2)."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:  # a socket in the file system, a proxy that does not know
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
        ip = ip.ipv4_mapped
    return str(ip)
