"""Asks the DNS about a sending domain: all questions at once, for a bounded time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar
from uuid import UUID

from mailbbgun.core.errors import ConfigurationError, Unavailable
from mailbbgun.domains.dns import findings
from mailbbgun.domains.dns.findings import Finding, MailHosts, Texts, Unanswered
from mailbbgun.domains.dns.records import PublicKey, key_name
from mailbbgun.relays.mx import NoAnswer, Resolver, lookup, texts
from mailbbgun.smtp.outcome import Deferred

#: Seconds, at most, for all questions about a domain together.
LIMIT = 8.0

#: Questions about one domain at once.
_AT_ONCE = 8

#: Domains about which one process asks at once, and of these for one tenant.
MOST = 4

#: Parents of a domain whose DMARC record is looked for.
_PARENTS = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a domain is to have: its keys, what its SPF record names, and where bounces go."""

    domain: str
    keys: Sequence[PublicKey]
    mechanisms: Sequence[str] = ()
    return_paths: Sequence[str] = ()  # domains


@dataclass(frozen=True, slots=True)
class DNSReport:
    """What the DNS has of a domain. ``seen`` are the selectors whose record is right."""

    findings: Sequence[Finding]
    seen: frozenset[str]


class DomainChecks:
    """Looks at sending domains, a few at once. Thread-safe."""

    def __init__(self, resolver: Callable[[], Resolver], threads: int) -> None:
        """``resolver`` makes a new resolver, with an empty cache: people ask again once they have changed something.

        ``threads``: how many requests the process serves at once. A look occupies one of them.
        """
        self._resolver = resolver
        self._lock = threading.Lock()
        self._running: list[UUID] = []
        self._most = min(MOST, max(1, threads // 2))

    def run(self, tenant_id: UUID, plan: Plan) -> DNSReport:
        """Ask the DNS about a tenant's domain, for up to :data:`LIMIT` seconds.

        Raises :class:`Unavailable` while too many look.
        """
        with self._place(tenant_id):
            try:
                resolver = self._resolver()
            except ConfigurationError as error:
                raise Unavailable("The service knows no name servers: see its setting DNS_SERVERS.") from error
            return look(plan, resolver)

    @contextmanager
    def _place(self, tenant_id: UUID) -> Iterator[None]:
        with self._lock:
            if len(self._running) >= self._most or tenant_id in self._running:
                raise Unavailable("Too many domains are being checked just now.", retry_after=int(LIMIT))
            self._running.append(tenant_id)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(tenant_id)


def look(plan: Plan, resolver: Resolver) -> DNSReport:
    """Ask the DNS about a domain. A question without an answer in time is a finding, too."""
    domain, returned = plan.domain, list(dict.fromkeys(plan.return_paths)) or [plan.domain]
    parents = domain.split(".")
    dmarc = [f"_dmarc.{'.'.join(parents[place:])}" for place in range(max(1, min(len(parents) - 1, _PARENTS + 1)))]
    keys = {key.selector: key_name(key.selector, domain) for key in plan.keys}
    names = dict.fromkeys([*keys.values(), domain, *returned, *dmarc])
    with _Questions() as questions:
        said = {name: questions.ask(partial(_texts, name, resolver)) for name in names}
        takes = {name: questions.ask(partial(_hosts, name, resolver)) for name in dict.fromkeys([domain, *returned])}
        known: dict[str, Texts] = {name: answer() for name, answer in said.items()}
        servers: dict[str, MailHosts | Unanswered] = {name: answer() for name, answer in takes.items()}
    of_keys = [findings.of_key(domain, key, known[keys[key.selector]]) for key in plan.keys]
    found = [
        *of_keys,
        *(findings.of_spf(name, known[name], plan.mechanisms) for name in returned),
        findings.of_dmarc(domain, {name: known[name] for name in dmarc}, returned),
        findings.of_mx(domain, servers[domain]),
        *(findings.of_return_path(domain, name, servers[name]) for name in returned),
    ]
    pairs = zip(plan.keys, of_keys, strict=True)
    return DNSReport(found, frozenset(key.selector for key, its in pairs if its.state == findings.OK))


class _Questions:
    """Asks questions in threads. Those that are not answered by :data:`LIMIT` end without an answer."""

    def __enter__(self) -> "_Questions":
        self._until = monotonic() + LIMIT
        self._threads = ThreadPoolExecutor(_AT_ONCE, "domain-look")
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def ask(self, question: Callable[[], T | Unanswered]) -> Callable[[], T | Unanswered]:
        asked = self._threads.submit(question)

        def answer() -> T | Unanswered:
            try:
                return asked.result(max(0.0, self._until - monotonic()))
            except TimeoutError:
                return Unanswered(f"nothing came within {LIMIT:g} s")

        return answer


def _texts(name: str, resolver: Resolver) -> Texts:
    try:
        return texts(name, resolver)
    except NoAnswer as error:
        return Unanswered(str(error))


def _hosts(domain: str, resolver: Resolver) -> MailHosts | Unanswered:
    found = lookup(domain, resolver)
    if isinstance(found, list):
        return MailHosts([host.name for host in found])
    if isinstance(found, Deferred):
        return Unanswered(found.reply.text)
    return MailHosts((), found.reply.text)
