"""The worker context: everything the verbs of ``deliver.py`` need, as one value for each worker process."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from uuid import UUID, uuid4

from mailbbgun.core.clock import Clock
from mailbbgun.database.db import Database
from mailbbgun.deliver.come_back_times import ComeBackTimes
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.results import Results
from mailbbgun.deliver.retry import Policy
from mailbbgun.limits.permits import PermitStore
from mailbbgun.limits.rate_limiter import RateLimiter
from mailbbgun.limits.stores import permit_store
from mailbbgun.messages.publisher import Publisher
from mailbbgun.routing.circuit_breaker import CircuitBreaker
from mailbbgun.routing.routes import Routes
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.cache import AccountCache


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything a worker's verbs need. ``owner`` is new at every start: never a host name, which comes back."""

    owner: UUID
    settings: Settings
    db: Database
    clock: Clock
    routes: Routes
    account_cache: AccountCache
    rate_limiter: RateLimiter
    permits: PermitStore
    breaker: CircuitBreaker
    come_back_times: ComeBackTimes
    journal: Journal
    leases: Leases
    publisher: Publisher
    results: Results
    policy: Policy

    @classmethod
    def open(cls, services: Services, owner: UUID | None = None, woken: Callable[[], None] = lambda: None) -> Self:
        """Set up a context; ``woken`` is called, from a thread, when an account's limits let something go.

        Raises :class:`ConfigurationError` if the journal cannot be written or ``SMTP_URL`` used.
        """
        settings = services.settings
        owner = owner or uuid4()
        permits = permit_store(settings, services.db)
        rate_limiter = RateLimiter(permits, woken)
        routes = Routes(settings, rate_limiter)
        journal = Journal(settings.journal_folder, owner)
        leases = Leases(owner, settings.LEASE_SECONDS, services.clock)
        publisher = Publisher(services.db, services.queue, services.outages)
        return cls(
            owner=owner,
            settings=settings,
            db=services.db,
            clock=services.clock,
            routes=routes,
            account_cache=AccountCache(services.vault, settings),
            rate_limiter=rate_limiter,
            permits=permits,
            breaker=breaker(settings, services.clock),
            come_back_times=ComeBackTimes(services.clock),
            journal=journal,
            leases=leases,
            publisher=publisher,
            results=Results(owner, services.db, journal, leases, publisher, services.outages),
            policy=policy(settings),
        )

    def close(self, timeout: float) -> None:
        """Write the last results (for up to ``timeout`` seconds) and put everything away."""
        self.results.close(timeout)
        self.rate_limiter.close()
        self.permits.close()
        self.routes.close()
        self.publisher.close()
        self.journal.close(keep=bool(self.leases.in_hand()))


def breaker(settings: Settings, clock: Clock) -> CircuitBreaker:
    """Return the circuits by the settings. A pause is over before anything deferred because of it comes back."""
    unreachable_pause = min(settings.CIRCUIT_PAUSE_SECONDS, min(settings.RETRY_DELAYS) / 2)
    return CircuitBreaker(
        settings.REFUSED_PAUSE_SECONDS, clock, failures=settings.CIRCUIT_FAILURES, unreachable_pause=unreachable_pause
    )


def policy(settings: Settings) -> Policy:
    """Return the rules of retrying by the settings."""
    return Policy(settings.RETRY_DELAYS, settings.ON_UNKNOWN == "hold", random.random, settings.REFUSED_PAUSE_SECONDS)
