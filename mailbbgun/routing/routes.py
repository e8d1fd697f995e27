"""Finds the routes of a mail, and the relay of a route.

A mail leaves through an SMTP account of its tenant. If the tenant has none, ``SMTP_URL`` decides:
one server for all mail, or each domain's MX.

A message to Slack leaves through the Slack account that it is from. Mail to local domains, and all that
another server sent, stays here. What an inbound route posts goes to the route's URL.

A *route* is a name. Transactions on one route share a part of the send queue, a circuit and
connections. A mail has *candidate routes*, best first.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from uuid import UUID

from mailbbgun.core.net import Allowed, Guard
from mailbbgun.counters.counters import Counters
from mailbbgun.limits.rate_limiter import RateLimiter
from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.relays.contract import Relay
from mailbbgun.relays.local import Local
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.posting.relay import AT_ONCE, AT_ONCE_OF_ROUTE, POST_PREFIX, Posts
from mailbbgun.relays.relay import DirectMX, SmartHost
from mailbbgun.relays.slack.medium import SIMULATED, SLACK_PREFIX, slack_account_of
from mailbbgun.relays.slack.relay import Slack, SlackSimulator, SlackSource
from mailbbgun.relays.unroutable import Unroutable
from mailbbgun.return_paths.paths import ReturnPaths
from mailbbgun.routing.ways_out import catcher, endpoint, resolver
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Timeouts
from mailbbgun.smtp_accounts.account import Account, fitting, ranked
from mailbbgun.smtp_accounts.cache import TenantAccounts

SMARTHOST = "smarthost"
ACCOUNT, UNROUTABLE = "account:", "nowhere:"

#: The route of mail that is delivered here.
LOCAL = "local:"

#: The route of mail of test keys. With its colon it cannot be a domain.
CATCHER = "catcher:"

#: Routes by which no mail leaves that could bounce.
_NO_MAIL = (CATCHER, LOCAL, SLACK_PREFIX, POST_PREFIX)

#: These routes may use one of so many connections: whom test keys write to may be slow on purpose, and what
#: is delivered here waits for the database alone.
TEST_SHARE = 4

#: Requests of one Slack account at once in a process: Slack wants about one message a second in a channel.
SLACK_REQUESTS = 2

#: Idle connections that are kept, at least.
KEPT = 200

#: Seconds. If an account's limits let mail go only later than this, a transaction takes another
#: candidate route, if it has one.
SOON_SECONDS = 2.0

#: Returns for how many seconds a route is paused, as ``CircuitBreaker.paused_for``.
PausedFor = Callable[[str], float]


class Routes:
    """All routes of this process and their connections. Thread-safe, except for the coroutines of relays."""

    def __init__(
        self,
        settings: Settings,
        rate_limiter: RateLimiter | None = None,
        counters: Counters | None = None,
        slack_source: SlackSource | None = None,
        local: Local | None = None,
        return_paths: ReturnPaths | None = None,
        posts: Posts | None = None,
    ) -> None:
        """Raises :class:`ConfigurationError` if ``SMTP_URL`` cannot be used."""
        self.per_domain = settings.direct_mx
        self.timeouts = Timeouts()
        self.workers = 1  # processes that share the accounts' limits
        self.default_route_only = True  # whether SMTP_URL is the only way out: there are no accounts and no test keys
        self._settings = settings
        self._rate_limiter = rate_limiter
        self._counters = counters or Counters()
        self._return_paths = return_paths
        self._pool = Pool(self.timeouts, settings.HOSTNAME, counters=self._counters)
        self.follow()
        self._relay = self._default_relay(settings)
        self._catcher = SmartHost(catcher(settings), self._pool)
        self._slack = Slack(settings.SLACK_API_URL, settings.SLACK_TIMEOUT, slack_source)
        self._local = local or Local()
        self._posts = posts or Posts(HTTPClient.permitting(settings.ALLOW_PRIVATE_HOSTS, settings.HTTP_CA_FILE))
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}  # by route
        # Route → when its account's limits let mail go again, as far as known; monotonic seconds.
        self._free: dict[str, float] = {}

    def follow(self) -> None:
        """Let connections have the limits that the settings have now."""
        its, keep = self._settings, max(KEPT, self._settings.WORKER_CONNECTIONS)
        self.timeouts = Timeouts(**asdict(its.SMTP_TIMEOUTS))
        self._pool.limit(self.timeouts, its.MESSAGES_PER_CONNECTION, float(its.IDLE_CONNECTION_SECONDS), keep)

    def candidates(
        self,
        accounts: TenantAccounts,
        sender: str,
        address: str,
        *,
        test: bool = False,
        received: bool = False,
        tenant_id: UUID | None = None,
    ) -> tuple[str, ...]:
        """Return the routes that one recipient's mail may take, in no order.

        Recipients of a message with the same candidates share a transaction. ``tenant_id`` is the
        sender's, whose own local domains count. What was ``received`` never leaves, whatever became of
        its domain.
        """
        if received:
            return (LOCAL,)
        if address.startswith(POST_PREFIX):
            return (address,)
        if sender.startswith(SLACK_PREFIX):
            return (sender,)
        if test:
            return (CATCHER,)
        domain = address.rpartition("@")[2].lower()
        if self._local.takes(domain, tenant_id):
            return (LOCAL,)
        if not accounts.any:
            return (domain if self.per_domain else SMARTHOST,)
        found = fitting(accounts.enabled, sender.lower(), domain)
        usable = tuple(f"{ACCOUNT}{account.id}" for account in found if account.endpoint)
        if usable:
            return usable
        if found:
            return (f"{UNROUTABLE}the password of the SMTP account {found[0].name} cannot be decrypted",)
        return (f"{UNROUTABLE}no SMTP account that is enabled may send from {sender} to {domain}",)

    def add_accounts(self, tenants: Iterable[TenantAccounts]) -> None:
        """Add the accounts that came with newly claimed mail."""
        with self._lock:
            self._accounts |= _by_route(tenants)

    def replace(self, tenants: Callable[[], Iterable[TenantAccounts]]) -> list[str]:
        """Forget all accounts but these; return the routes whose past says nothing any more.

        Those are the routes whose account is gone or leads to another server. Mail that waits for
        such a route takes another one. ``tenants`` is called while :meth:`add_accounts` must wait,
        so that no account it adds is forgotten.
        """
        with self._lock:
            before, self._accounts = self._accounts, _by_route(tenants())
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
        """Return whether a route still exists: accounts come and go."""
        return not route.startswith(ACCOUNT) or route in self._accounts

    def has_server(self, route: str) -> bool:
        """Return whether a route exists and has a server."""
        return self.exists(route) and not route.startswith(UNROUTABLE)

    def known(self) -> list[UUID]:
        """Return the ids of the accounts that are known."""
        with self._lock:
            return [account.id for account in self._accounts.values()]

    def ordered(self, candidates: Sequence[str], paused_for: PausedFor) -> list[str]:
        """Return the candidate routes in the order in which to try them.

        Routes that cannot go soon, because they are paused or their account's limit is
        reached, come last.
        """
        if len(candidates) == 1:
            return list(candidates)
        known = [account for route in candidates if (account := self._accounts.get(route))]
        found = [f"{ACCOUNT}{account.id}" for account in ranked(known, random.random)]
        return sorted(found, key=lambda route: not self.may_leave_soon(route, paused_for)) or list(candidates)

    def may_leave_soon(self, route: str, paused_for: PausedFor) -> bool:
        """Return whether mail may leave by this route now or soon."""
        return (
            self.exists(route)
            and not paused_for(route)
            and self._free.get(route, 0.0) - time.monotonic() <= SOON_SECONDS
        )

    def name(self, route: str) -> str | None:
        """Return the name of a route's account, or None if the route has none."""
        if route.startswith(SLACK_PREFIX):
            return self._slack.name(slack_account_of(route)) if route != SIMULATED else None
        account = self._accounts.get(route)
        return account.name if account else None

    def account_labels(self, route: str) -> tuple[str, str]:
        """Return the labels ``account`` and ``account_id`` that attempts by a route are counted with."""
        if (account := self._accounts.get(route)) is not None:
            return self._counters.account(str(account.id), account.name)
        if route.startswith(SLACK_PREFIX) and route != SIMULATED:
            return self._counters.account(str(slack_account_of(route)), self.name(route) or "slack")
        if route in (CATCHER, SMARTHOST, LOCAL):
            return route.rstrip(":"), ""
        if route.startswith(POST_PREFIX):
            return "post", ""
        return ("mx" if self.per_domain and ":" not in route else "none"), ""

    @property
    def idle_connections(self) -> int:
        """How many connections are kept for reuse."""
        return self._pool.idle

    def relay(self, route: str) -> Relay:
        """Return the relay of a route."""
        if route.startswith(UNROUTABLE):
            return Unroutable(route.removeprefix(UNROUTABLE))
        if route == CATCHER:
            return self._catcher
        if route == LOCAL:
            return self._local
        if route.startswith(SLACK_PREFIX):
            return SlackSimulator() if route == SIMULATED else self._slack.relay(slack_account_of(route))
        if route.startswith(POST_PREFIX):
            return self._posts.relay(route)
        if not route.startswith(ACCOUNT):
            return self._relay
        account = self._accounts.get(route)
        if account is None or account.endpoint is None:
            return Unroutable("the SMTP account is no longer there, or enabled")
        return SmartHost(account.endpoint, self._pool, account.max_recipients)

    def recipients(self, route: str, *, own_sender: bool = False) -> int | None:
        """Return the most recipients a route takes at once; None: any number. ``own_sender``: see `envelope_from`."""
        if not own_sender and self._has_return_paths(route):
            return 1
        account = self._accounts.get(route)
        return account.max_recipients if account else None

    def envelope_from(self, route: str, delivery_id: UUID) -> str | None:
        """Return the envelope sender of a delivery whose mail names none; None: the address in From."""
        if self._return_paths and self._has_return_paths(route):
            return self._return_paths.address(delivery_id)
        account = self._accounts.get(route)
        return account.envelope_from if account else None

    def _has_return_paths(self, route: str) -> bool:
        """Return whether mail by a route gets return paths: it can bounce, and its account names no envelope sender."""
        if not (self._return_paths and self._return_paths.used) or route.startswith(_NO_MAIL):
            return False
        account = self._accounts.get(route)
        return account is None or account.envelope_from is None

    def connections(self, route: str) -> int:
        """Return how many connections of this process may serve a route at the same time."""
        if route in (CATCHER, LOCAL):
            return max(1, self._settings.WORKER_CONNECTIONS // TEST_SHARE)
        if route.startswith(SLACK_PREFIX):
            return min(SLACK_REQUESTS, self._settings.WORKER_CONNECTIONS)
        if route.startswith(POST_PREFIX):
            return min(AT_ONCE_OF_ROUTE, self._settings.WORKER_CONNECTIONS)
        if route.startswith(ACCOUNT):
            account, most = self._accounts.get(route), self.connections_per_tenant(route)
            return min(most, max(1, account.max_connections // self.workers)) if account else most
        return self._settings.CONNECTIONS_PER_DOMAIN if self.per_domain else self._settings.WORKER_CONNECTIONS

    def connections_per_tenant(self, route: str) -> int:
        """Return how many connections here one tenant may use on all routes of that kind."""
        if route.startswith(POST_PREFIX):
            return max(1, self.connections_of_kind(route) // 2)
        # One tenant's accounts do not get all connections: slow ones must not occupy every connection.
        return max(1, self._settings.WORKER_CONNECTIONS * 3 // 4) if route.startswith(ACCOUNT) else sys.maxsize

    def connections_of_kind(self, route: str) -> int:
        """Return how many connections here all tenants may use on all routes of that kind."""
        if route.startswith(POST_PREFIX):  # more would wait in the relay, and other mail for their connections
            return max(1, min(AT_ONCE, self._settings.WORKER_CONNECTIONS // 2))
        return sys.maxsize

    def gate(self, route: str, waiting: Callable[[], int]) -> float:
        """Return 0 if one more mail may go now, else about how many seconds to wait.

        ``waiting`` counts how many could go at once.

        A mail that may go uses up a part of the account's limits.
        """
        if route.startswith(SLACK_PREFIX):
            return self._slack.paused_for(slack_account_of(route)) if route != SIMULATED else 0.0
        account = self._accounts.get(route)
        if account is None or self._rate_limiter is None or not account.limits.any:
            return 0.0
        wait = self._rate_limiter.ready(account.id, account.limits, waiting())
        self._free[route] = time.monotonic() + wait
        return wait

    async def reap(self) -> None:
        """Close connections that were idle too long."""
        await self._pool.reap()

    async def close(self) -> None:
        """Close every idle connection, and from now on each one after its transaction."""
        await self._pool.close_all()

    def _default_relay(self, settings: Settings) -> Relay:
        if self.per_domain:
            guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
            return DirectMX(resolver(settings), self._pool, port=settings.MX_PORT, guard=guard)
        return SmartHost(endpoint(settings), self._pool)


def _by_route(tenants: Iterable[TenantAccounts]) -> dict[str, Account]:
    return {f"{ACCOUNT}{account.id}": account for tenant in tenants for account in tenant.enabled}
