"""Decides which hosts that tenants name we connect to, and at which addresses and ports.

Without it a tenant could reach servers of our own network (server-side request forgery).

The rules judge the IP address that is connected to, never the name. A name is resolved once. Its
addresses are judged, and callers connect only to those. So a DNS that answers differently the
second time (rebinding) gains nothing.

If a host has several addresses, the ones that are not permitted are left out. The host is refused
only if none is left: many hosts have an inner address beside their public one.

The rules are our own, because `is_global` of `ipaddress` is true for NAT64, 6to4, site-local and
multicast addresses, and for `::127.0.0.1`.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import idna

from mailbbgun.core.errors import NotPermitted
from mailbbgun.core.hosts import without_login

#: Ports that servers accept mail at: relay, submission over TLS (RFC 8314 §3.3), submission (RFC
#: 6409), and the port that providers offer where 25 is blocked.
SMTP_PORTS = frozenset({25, 465, 587, 2525})

#: How many addresses of one host are tried. A tenant's own DNS may name thousands.
MAX_ADDRESSES = 10

#: The setting that permits hosts that are not public, and other ports. Errors name it.
SETTING = "ALLOW_PRIVATE_HOSTS"
#: The entry of that setting that stands for all hosts.
ANY = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Returns the IP addresses of a host, which is to be connected to at a port. Raises OSError or
#: UnicodeError.
LookUp = Callable[[str, int], Sequence[str]]

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
#: Names that inet_aton(3), and so getaddrinfo, reads as addresses: 127.1, 0x7f000001.
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

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

# All addresses that were ever assigned for public use (RFC 4291 §2.4). Outside are loopback,
# v4-compatible, link- and site-local, ULA, multicast, SIIT, discard and SRv6 addresses, and all
# future kinds.
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

# RFC 6052 §2.1. Through these a network with only IPv6 reaches mail servers with only IPv4, so the
# IPv4 address inside is judged. 64:ff9b:1::/48 (RFC 8215) is for private use and not permitted:
# only its owner knows where in it the IPv4 address stands.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def permitted(address: str) -> bool:
    """Return whether a text is a public unicast IP address, which any tenant may name."""
    try:
        ip = _plain(ipaddress.ip_address(address))
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    # A zone (RFC 4007 §11) chooses one of our interfaces. No public address needs one.
    return ip in _PUBLIC_V6 and ip.scope_id is None and not any(ip in network for network in _NOT_PUBLIC_V6)


def ours(address: str) -> bool:
    """Return whether an IP address is this machine's own. Sends no packet.

    Two things show that. A socket that is connected to one of our addresses has the same address at
    this end; this fails for a second address of one network. And a socket can be bound to one of
    our addresses; this says nothing where any address can be bound (``ip_nonlocal_bind``).
    """
    try:
        own = str(_plain(ipaddress.ip_address(address)))
    except ValueError:
        return False
    # No machine has the documentation addresses of RFC 3849 and RFC 5737.
    family, nobodys = (socket.AF_INET6, "2001:db8::1") if ":" in own else (socket.AF_INET, "192.0.2.1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((own, 9))
            if probe.getsockname()[0] == own:
                return True
    except OSError:  # there is no route to it; a later connection will fail and say so
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
    """Return a host in the form to store, show, resolve and look for in a certificate.

    That is a name in lower case and ASCII (IDNA 2008 by UTS 46) without a dot at its end, or an IP
    address in its usual spelling.

    Raises :class:`NotPermitted` for any other text: one with brackets, a port, a user name, white
    space or a zone, and numbers of any script that C libraries read as addresses.
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
    """Return the IP addresses of ``host`` by the system's resolver, best first (RFC 6724).

    The resolver's own time limits apply. Raises OSError or UnicodeError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Allowed:
    """The content of ``ALLOW_PRIVATE_HOSTS``: names and networks that are permitted on any port."""

    everything: bool = False
    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> "Allowed":
        """Read networks, addresses, host names and ``*``.

        Raises ValueError that names the first wrong entry.
        """
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
        """Return whether a host is allowed, whatever it resolves to."""
        return self.everything or name in self.names

    def address(self, address: str) -> bool:
        """Return whether a text is an IP address that is allowed."""
        ip = _address(address)
        return ip is not None and (
            self.everything or any(_plain(ip) in network or ip in network for network in self.networks)
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges every host that a tenant names before we connect to it.

    It is hashable, and guards with the same rules are equal. ``ports`` are those that any tenant
    may name. ``allowed`` is what the operator permits beyond that. ``look_up`` resolves names.
    Methods take the host as the tenant wrote it, and raise :class:`NotPermitted` with a text for
    the tenant, which does not tell what a name resolves to.
    """

    ports: frozenset[int] = SMTP_PORTS
    allowed: Allowed = Allowed()
    look_up: LookUp = system_look_up

    def check(self, host: str, port: int) -> str:
        """Judge a host and a port without the DNS, and return the host as `hostname` does.

        It is meant for the moment when an account is saved. It does not replace `addresses`.
        """
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
        """Resolve a host once, and return its permitted IP addresses, best first.

        There are one to `MAX_ADDRESSES` of them. Connect to these and to nothing else. Raises
        OSError or UnicodeError if the look-up fails.
        """
        name = self.check(host, port)
        return self._demand(name, [name] if _address(name) is not None else self.look_up(name, port), port)

    def check_peer(self, host: str, port: int, peer: str, own: str) -> None:
        """Judge a new connection before a byte is sent.

        ``peer`` and ``own`` are the IP addresses of its two ends. The kernel decides where an
        address leads. If both ends are equal, it led back to this machine, which is as good as a
        loopback address.
        """
        name = hostname(host)
        self._demand(name, [peer], port)
        if peer == own and not self._allows(name, peer):
            raise _no_address(name)

    def reachable(self, host: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """Return the IP addresses of an MX host that we may connect to, in the order given.

        These are public and not this machine's own, or the operator allows the host or the address.
        ``host`` may be any name of the DNS.
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
        """Return the error about a port. It also says so if the host is plainly not public."""
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
    """Return the IPv4 address in a mapped (RFC 4291 §2.5.5.2) or NAT64 one; others as they are."""
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
    """Return what is counted as one client: an IPv4 address, or the /64 of an IPv6 address.

    One client has all addresses of its /64 (RFC 6177 §2).
    """
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:  # the client came through a Unix socket, or the proxy does not know its address
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
        ip = ip.ipv4_mapped
    return str(ip)


def is_loopback(host: str) -> bool:
    """Return whether a host of a setting, an IP address or a name, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
