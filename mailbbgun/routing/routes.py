"""Which way a mail leaves: through an account of its tenant's; else as ``SMTP_URL`` says, one
server for all or each domain's MX.

A *route* is a name: transactions on one route share a line of the send queue, a circuit and
connections. A mail has *candidates*: the routes it may take, best first.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol
from uuid import UUID

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.limits.rate_limiter import RateLimiter
from mailbbgun.relays.mx import Resolver
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.relay import DirectMX, SmartHost
from mailbbgun.relays.url import read as read_url
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Outcome, Phase, Refused
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot
from mailbbgun.smtp_accounts.account import Account, fitting, ranked
from mailbbgun.smtp_accounts.cache import TenantAccounts

SMARTHOST = "smarthost"
ACCOUNT, NOWHERE = "account:", "nowhere:"
CATCHER = "catcher:"  # of mail of test keys, and with the colon no domain's
TEST_SHARE = 4  # one of so many connections may be busy with it: whom test keys write to may be slow on purpose
FAR = 2.0  # seconds; whoever may go no sooner goes another way, if there is one

Ready = Callable[[str], float]


class Relay(Protocol):
    """What carries mail."""

    def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """See :meth:`mailbbgun.relays.relay.SmartHost.attempt`."""


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The way of mail whose tenant has accounts, none of which may take it: it waits until one may,
    and is never lost for that.
    """

    why: str

    def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Refuse all of it."""
        del before_dot, after_dot
        return dict.fromkeys(envelope.recipients, Refused(Reply(0, "4.3.5", self.why), Phase.CONNECT))


class Routes:
    """The ways out of this process and their connections. Thread-safe."""

    def __init__(self, settings: Settings, rate_limiter: RateLimiter | None = None) -> None:
        """Raises :class:`ConfigurationError` for a ``SMTP_URL`` that cannot be used."""
        self.per_domain = settings.direct_mx
        self.timeouts = Timeouts(**asdict(settings.SMTP_TIMEOUTS))
        self.workers = 1  # processes that share what accounts allow
        self.sole = True  # SMTP_URL, which is one server, is the only way out there is
        self._settings = settings
        self._rate_limiter = rate_limiter
        self._pool = Pool(
            self.timeouts,
            settings.HOSTNAME,
            max_messages=settings.MESSAGES_PER_CONNECTION,
            idle=float(settings.IDLE_CONNECTION_SECONDS),
        )
        self._relay = self._way_out(settings)
        self._catcher = SmartHost(catcher(settings), self._pool)
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}  # by route
        self._free: dict[
            str, float
        ] = {}  # route → when its limits let something go again, as far as is known; monotonic seconds

    def candidates(self, page: TenantAccounts, sender: str, address: str, *, test: bool = False) -> tuple[str, ...]:
        """Return what recipients of one message must share to go in one transaction: the routes
        they may take, in no order.
        """
        if test:
            return (CATCHER,)
        domain = address.rpartition("@")[2].lower()
        if not page.any:
            return (domain if self.per_domain else SMARTHOST,)
        found = fitting(page.enabled, sender.lower(), domain)
        usable = tuple(f"{ACCOUNT}{account.id}" for account in found if account.endpoint)
        if usable:
            return usable
        if found:
            return (f"{NOWHERE}the password of the SMTP account {found[0].name} cannot be decrypted",)
        return (f"{NOWHERE}no SMTP account that is enabled may send from {sender} to {domain}",)

    def know(self, pages: Iterable[TenantAccounts]) -> None:
        """Take in accounts that mail was just claimed for."""
        with self._lock:
            self._accounts |= _by_route(pages)

    def replace(self, pages: Callable[[], Iterable[TenantAccounts]]) -> list[str]:
        """Know these accounts and no others; return the routes of those that go elsewhere now, or
        no more, and whose past says nothing.

        They are asked for while nobody calls :meth:`know`: what that brought meanwhile must not be
        forgotten.

        What waits for one that is not known any more goes another way.
        """
        with self._lock:
            before, self._accounts = self._accounts, _by_route(pages())
            changed = [
                one
                for one in before
                if one not in self._accounts or before[one].endpoint != self._accounts[one].endpoint
            ]
            limits = [
                one for one in before if one not in self._accounts or before[one].limits != self._accounts[one].limits
            ]
            for route in limits:
                self._free.pop(route, None)
        return changed

    def exists(self, route: str) -> bool:
        """Say whether there is such a way by now; accounts come and go."""
        return not route.startswith(ACCOUNT) or route in self._accounts

    def leads(self, route: str) -> bool:
        """Say whether there is a server at the end of a route."""
        return self.exists(route) and not route.startswith(NOWHERE)

    def known(self) -> list[UUID]:
        """Return the accounts that are known."""
        with self._lock:
            return [account.id for account in self._accounts.values()]

    def ordered(self, candidates: Sequence[str], wait: Ready) -> list[str]:
        """Put ways in the order in which they are to be tried; those that ``wait`` seconds for
        something, or whose limit is reached, come last.
        """
        if len(candidates) == 1:
            return list(candidates)
        known = [account for way in candidates if (account := self._accounts.get(way))]
        found = [f"{ACCOUNT}{account.id}" for account in ranked(known, random.random)]
        return sorted(found, key=lambda way: not self.goes(way, wait)) or list(candidates)

    def goes(self, way: str, wait: Ready) -> bool:
        """Say whether mail may leave this way by now, or soon."""
        return self.exists(way) and not wait(way) and self._free.get(way, 0.0) - time.monotonic() <= FAR

    def name(self, route: str) -> str | None:
        """Return the name of the account a route is; None if it is none."""
        account = self._accounts.get(route)
        return account.name if account else None

    def relay(self, route: str) -> Relay:
        """Return what carries the mail of a route."""
        if route.startswith(NOWHERE):
            return Nowhere(route.removeprefix(NOWHERE))
        if route == CATCHER:
            return self._catcher
        if not route.startswith(ACCOUNT):
            return self._relay
        account = self._accounts.get(route)
        if account is None or account.endpoint is None:
            return Nowhere("the SMTP account is no longer there, or enabled")
        return SmartHost(account.endpoint, self._pool, account.max_recipients)

    def recipients(self, route: str) -> int | None:
        """Return how many recipients of one message a route takes at once; None where no limit is
        set.
        """
        account = self._accounts.get(route)
        return account.max_recipients if account else None

    def envelope_from(self, route: str) -> str | None:
        """Return the sender that a route gives to mail which names none of its own; None: the
        address of its From.
        """
        account = self._accounts.get(route)
        return account.envelope_from if account else None

    def connections(self, route: str) -> int:
        """Return how many connections of this process may be busy with a route."""
        if route == CATCHER:
            return max(1, self._settings.WORKER_CONNECTIONS // TEST_SHARE)
        if route.startswith(ACCOUNT):
            account, most = self._accounts.get(route), self.together(route)
            return min(most, max(1, account.max_connections // self.workers)) if account else most
        return self._settings.CONNECTIONS_PER_DOMAIN if self.per_domain else self._settings.WORKER_CONNECTIONS

    def together(self, route: str) -> int:
        """Return how many connections of this process one tenant may keep busy by all routes of
        that kind.
        """
        # By its accounts not all there are: those that are slow must not keep every sender.
        return max(1, self._settings.WORKER_CONNECTIONS * 3 // 4) if route.startswith(ACCOUNT) else sys.maxsize

    def gate(self, route: str, waiting: int) -> float:
        """Return 0 if one more mail may go now, which uses up a part of the account's limits; else
        about how many seconds to wait.
        """
        account = self._accounts.get(route)
        if account is None or self._rate_limiter is None or not account.limits.any:
            return 0.0
        wait = self._rate_limiter.ready(account.id, account.limits, waiting)
        self._free[route] = time.monotonic() + wait
        return wait

    def reap(self) -> None:
        """Close connections that have idled too long."""
        self._pool.reap()

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close_all()

    def _way_out(self, settings: Settings) -> Relay:
        if self.per_domain:
            guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
            return DirectMX(resolver(settings), self._pool, port=settings.MX_PORT, guard=guard)
        return SmartHost(endpoint(settings), self._pool)


def _by_route(pages: Iterable[TenantAccounts]) -> dict[str, Account]:
    return {f"{ACCOUNT}{account.id}": account for page in pages for account in page.enabled}


def check(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` for a way out that cannot be used, without taking it."""
    if settings.direct_mx or settings.DNS_SERVERS:
        resolver(settings)
    if not settings.direct_mx:
        endpoint(settings)


def resolver(settings: Settings) -> Resolver:
    """Return what asks the DNS.

    Raises :class:`ConfigurationError` for servers that are none, or do not share a port.
    """
    servers = [server.partition("]:" if server.startswith("[") else ":") for server in settings.DNS_SERVERS]
    ports = {port or "53" for _, _, port in servers} or {"53"}
    if len(ports) > 1 or not min(ports).isdecimal() or not 0 < int(min(ports)) < 65_536:
        raise ConfigurationError("DNS_SERVERS: must be addresses, or address:port with one port for all")
    try:
        return Resolver([address.strip("[]") for address, _, _ in servers], int(min(ports)))
    except ValueError as error:
        raise ConfigurationError(f"DNS_SERVERS: {error}") from error


def catcher(settings: Settings) -> Endpoint:
    """Return where the mail catcher listens."""
    return Endpoint(settings.CATCHER_HOST, settings.CATCHER_PORT, "none")


def endpoint(settings: Settings) -> Endpoint:
    """Return the one server all mail leaves through.

    Raises :class:`ConfigurationError`, naming no password.
    """
    if settings.all_caught:
        return catcher(settings)
    try:
        return read_url(settings.SMTP_URL, settings.SMTP_CA_FILE or None)
    except ValueError as error:
        raise ConfigurationError(f"SMTP_URL: {error}") from error
