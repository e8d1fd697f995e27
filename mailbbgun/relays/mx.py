"""Finds the hosts that accept mail for a domain, and their addresses (RFC 5321 §5.1, RFC 7505).

Only this file asks the DNS. A certain answer is permanent (no such domain, null MX); a missing one
is temporary. "There is none" is certain only with the SOA record that RFC 2308 §3 asks for, because
broken resolvers give that answer too, without the record.
"""

import ipaddress
import math
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, time

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from mailbbgun.smtp.outcome import Bounced, Deferred, Phase
from mailbbgun.smtp.reply import Reply, safe

#: Mail exchangers tried for one domain.
MAX_HOSTS = 20

#: Seconds for which an answer is cached at most, whatever its TTL.
MAX_CACHED = 300.0

#: Seconds for which "no such name" and "no such record" are cached. RFC 2308 allows more, but a new
#: domain should not have to wait.
MAX_CACHED_NONE = 60.0

#: Octets of TXT records of which an answer is cached. A name server may send 64 KB for any name that a
#: mail makes us ask for.
MAX_CACHED_OCTETS = 4096


@dataclass(frozen=True, slots=True)
class MXHost:
    """A mail exchanger: its name, or an IP address if the domain was an address literal."""

    name: str
    preference: int


class NoData(Exception):
    """The DNS is certain that there is no such record.

    `exists`: whether the name itself exists.
    """

    def __init__(self, exists: bool) -> None:
        super().__init__("no such record" if exists else "no such name")
        self.exists = exists


class NoAnswer(Exception):
    """The DNS did not answer, said SERVFAIL or REFUSED, or said "there is none" without an SOA."""


class NotCached(Exception):
    """The DNS would have to be asked."""


#: (name in lower case, kind) → until when it is kept, in monotonic seconds, and the records.
Answers = dict[tuple[str, str], tuple[float, list[dns.rdata.Rdata] | NoData]]


class Cached:
    """The cache of a resolver."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def ask(self, name: str, kind: str) -> list[dns.rdata.Rdata]:
        """See :meth:`Resolver.ask`. Raises NotCached instead of asking."""
        until, answer = self._answers.get((name.lower(), kind), (0.0, []))
        if until <= monotonic():
            raise NotCached
        return _records(answer)


class Resolver:
    """DNS queries with a time limit and a cache. Thread-safe.

    `nameservers` are IP addresses; empty means those of /etc/resolv.conf. Raises ValueError if they
    are no addresses, or there are none. One query takes at most `lifetime` seconds. An answer is
    cached for its TTL, but at most `MAX_CACHED` seconds ("there is none": `MAX_CACHED_NONE`); only
    the latest `cached` answers are kept.
    """

    def __init__(
        self, nameservers: Sequence[str] = (), port: int = 53, lifetime: float = 10.0, cached: int = 2000
    ) -> None:
        try:
            self._dns = dns.resolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            raise ValueError("none given, and /etc/resolv.conf names none") from error
        if nameservers:
            self._dns.nameservers = [str(ipaddress.ip_address(server)) for server in nameservers]
            self._dns.port = port
        self._dns.timeout = min(3.0, lifetime)
        self._lifetime = lifetime
        self._most_cached = cached
        self._lock = threading.Lock()
        self._answers: Answers = {}
        #: Answers as this resolver does, but only from the cache, and without waiting.
        self.cached = Cached(self._answers)

    def ask(self, name: str, kind: str, within: float = math.inf) -> list[dns.rdata.Rdata]:
        """Return the records of `kind` ("MX", "A", "AAAA", "TXT", "PTR") at `name`, an absolute name.

        `within` is the time limit of this query in seconds, if it is shorter than `lifetime`. Raises
        NoData and NoAnswer.
        """
        try:
            return self.cached.ask(name, kind)
        except NotCached:
            seconds, answer = self._fetch(name, kind, min(within, self._lifetime))
            if _octets(answer) <= MAX_CACHED_OCTETS:
                self._keep(name, kind, monotonic() + seconds, answer)
        return _records(answer)

    def _keep(self, name: str, kind: str, until: float, answer: list[dns.rdata.Rdata] | NoData) -> None:
        with self._lock:
            self._answers.pop((name.lower(), kind), None)
            self._answers[name.lower(), kind] = (until, answer)
            while len(self._answers) > self._most_cached:
                del self._answers[next(iter(self._answers))]

    def _fetch(self, name: str, kind: str, lifetime: float) -> tuple[float, list[dns.rdata.Rdata] | NoData]:
        """Return the answer, and for how many seconds to cache it. Raises NoAnswer."""
        try:
            absolute = dns.name.from_text(name, dns.name.root)
        except (dns.exception.DNSException, UnicodeError):
            return MAX_CACHED_NONE, NoData(exists=False)  # not a name that could exist
        try:
            answer = self._dns.resolve(absolute, kind, lifetime=lifetime, search=False)
        except dns.resolver.NXDOMAIN as error:
            response = error.response(absolute)  # type: ignore[no-untyped-call]  # dnspython annotates all but its errors
            return MAX_CACHED_NONE, _certain(response, NoData(exists=False))
        except dns.resolver.NoAnswer as error:
            response = error.response()  # type: ignore[no-untyped-call]  # as above
            return MAX_CACHED_NONE, _certain(response, NoData(exists=True))
        except (dns.exception.DNSException, OSError) as error:
            raise NoAnswer(_why(error)) from error
        return min(answer.expiration - time(), MAX_CACHED), list(answer)


def _records(answer: list[dns.rdata.Rdata] | NoData) -> list[dns.rdata.Rdata]:
    if isinstance(answer, NoData):
        raise NoData(answer.exists)
    return answer


def _octets(answer: list[dns.rdata.Rdata] | NoData) -> int:
    records = [] if isinstance(answer, NoData) else answer
    return sum(len(part) for record in records if isinstance(record, TXT) for part in record.strings)


def lookup(domain: str, resolver: Resolver | Cached) -> list[MXHost] | Bounced | Deferred:
    """Return the hosts that accept mail for `domain`, best first (RFC 5321 §5.1).

    Hosts of equal preference are in random order. A domain without MX that has an address is its
    own exchanger. An address literal such as `[192.0.2.1]` is its own exchanger too (§4.1.3).
    """
    literal = _literal(domain)
    if literal is not None:
        return [MXHost(literal, 0)] if literal else _bounced("5.1.2", f"{safe(domain)}: not an address literal")
    try:
        records = resolver.ask(domain, "MX")
    except NoData as error:
        return _implicit(domain, resolver) if error.exists else _bounced("5.1.2", f"{safe(domain)}: no such domain")
    except NoAnswer as error:
        return _deferred(domain, error)
    hosts = [MXHost(str(mx.exchange)[:-1], mx.preference) for mx in records if isinstance(mx, MX)]
    named = [host for host in hosts if host.name]
    if not named:
        return _bounced("5.1.10", f"{safe(domain)}: takes no mail (null MX)")
    random.shuffle(named)
    return sorted(named, key=lambda host: host.preference)[:MAX_HOSTS]


def addresses(host: str, resolver: Resolver | Cached) -> list[str] | Bounced | Deferred:
    """Return the IP addresses of `host`, IPv4 first, each kind in random order.

    IPv4 comes first because mail servers judge a client by the name and reputation of its address,
    and few IPv6 addresses have these.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass  # not an address but a name: ask the DNS
    found: list[str] = []
    trouble: NoAnswer | None = None
    for kind in ("A", "AAAA"):
        try:
            records = [str(record) for record in resolver.ask(host, kind)]
        except NoData as error:
            if not error.exists:
                break
            continue
        except NoAnswer as error:
            trouble = error
            continue
        random.shuffle(records)
        found += records
    if found:
        return found
    return _deferred(host, trouble) if trouble else _bounced("5.4.4", f"{safe(host)}: has no address")


def texts(name: str, resolver: Resolver | Cached) -> list[str]:
    """Return the TXT records at `name`, the strings of each joined (RFC 6376 §3.6.2.2, RFC 7208 §3.3).

    Empty if there are none. Raises NoAnswer.
    """
    try:
        records = resolver.ask(name, "TXT")
    except NoData:
        return []
    return [b"".join(record.strings).decode("utf-8", "replace") for record in records if isinstance(record, TXT)]


def _certain(response: dns.message.Message, none: NoData) -> NoData:
    """Return `none` if `response` has the SOA record that makes it certain. Raises NoAnswer."""
    if not any(records.rdtype == dns.rdatatype.SOA for records in response.authority):
        raise NoAnswer(f"the DNS says {none}, but shows no SOA record for it")
    return none


def _why(error: Exception) -> str:
    """Return the last failure of each name server; dnspython's own text repeats every try."""
    if not isinstance(error, dns.resolver.LifetimeTimeout | dns.resolver.NoNameservers):
        return safe(str(error))
    last = {server.removeprefix("Do53:").rpartition("@")[0]: what for server, _, _, what, _ in error.kwargs["errors"]}
    told = [
        f"{server}: {'timed out' if isinstance(what, dns.exception.Timeout) else what}" for server, what in last.items()
    ]
    return f"the DNS gives no answer ({', '.join(told)})"


def _implicit(domain: str, resolver: Resolver | Cached) -> list[MXHost] | Bounced | Deferred:
    found = addresses(domain, resolver)
    return [MXHost(domain, 0)] if isinstance(found, list) else found


def _literal(domain: str) -> str | None:
    """Return the address in a literal; "" if the literal is invalid, None if there is none."""
    if not domain.startswith("["):
        return None
    text = domain[1:-1] if domain.endswith("]") else ""
    is_v6 = text[:5].lower() == "ipv6:"
    try:
        return str(ipaddress.IPv6Address(text[5:]) if is_v6 else ipaddress.IPv4Address(text))
    except ValueError:
        return ""


def _bounced(enhanced: str, text: str) -> Bounced:
    return Bounced(Reply(0, enhanced, text), Phase.DNS)


def _deferred(name: str, error: NoAnswer) -> Deferred:
    return Deferred(Reply(0, "4.4.3", safe(f"{name}: {error}")), Phase.DNS)
