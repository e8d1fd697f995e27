"""What a sender works with: one value per worker process, so that verbs take one argument instead of eight."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from uuid import UUID, uuid4

from mailbbgun.base.clock import Clock
from mailbbgun.base.db import Database
from mailbbgun.base.settings import Settings
from mailbbgun.deliver.breaker import Breaker
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.results import Results
from mailbbgun.deliver.retry import Policy
from mailbbgun.deliver.returns import Returns
from mailbbgun.deliver.route import Routes
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services
from mailbbgun.smtp_accounts.book import Book
from mailbbgun.smtp_accounts.grants import build as build_grants
from mailbbgun.smtp_accounts.pace import Grants
from mailbbgun.smtp_accounts.pacer import Pacer


@dataclass(frozen=True, slots=True)
class Desk:
    """One worker process's tools. ``owner`` is new at every start: never a host name, which comes back."""

    owner: UUID
    settings: Settings
    db: Database
    clock: Clock
    routes: Routes
    book: Book
    pacer: Pacer
    grants: Grants
    breaker: Breaker
    returns: Returns
    journal: Journal
    leases: Leases
    publisher: Publisher
    results: Results
    policy: Policy

    @classmethod
    def open(cls, services: Services, owner: UUID | None = None, woken: Callable[[], None] = lambda: None) -> Self:
        """Set up a desk; ``woken`` is called, from a thread, when an account's limits let something go.

        Raises :class:`ConfigurationError` if the journal cannot be written or ``SMTP_URL`` used.
        """
        settings = services.settings
        owner = owner or uuid4()
        grants = build_grants(settings, services.db)
        pacer = Pacer(grants, woken)
        routes = Routes(settings, pacer)
        journal = Journal(settings.journal_folder, owner)
        leases = Leases(owner, settings.LEASE_SECONDS, services.clock)
        publisher = Publisher(services.db, services.queue, services.outages)
        return cls(
            owner=owner,
            settings=settings,
            db=services.db,
            clock=services.clock,
            routes=routes,
            book=Book(services.vault, settings),
            pacer=pacer,
            grants=grants,
            breaker=breaker(settings, services.clock),
            returns=Returns(services.clock),
            journal=journal,
            leases=leases,
            publisher=publisher,
            results=Results(owner, services.db, journal, leases, publisher, services.outages),
            policy=policy(settings),
        )

    def close(self, timeout: float) -> None:
        """Write the last results (for up to ``timeout`` seconds) and put everything away."""
        self.results.close(timeout)
        self.pacer.close()
        self.grants.close()
        self.routes.close()
        self.publisher.close()
        self.journal.close(keep=bool(self.leases.held()))


def breaker(settings: Settings, clock: Clock) -> Breaker:
    """Return the circuits by the settings. A pause is over before anything deferred because of it comes back."""
    rest = min(settings.CIRCUIT_PAUSE_SECONDS, min(settings.RETRY_DELAYS) / 2)
    return Breaker(settings.REFUSED_PAUSE_SECONDS, clock, failures=settings.CIRCUIT_FAILURES, rest=rest)


def policy(settings: Settings) -> Policy:
    """Return the rules of retrying by the settings."""
    return Policy(settings.RETRY_DELAYS, settings.ON_UNKNOWN == "hold", random.random, settings.REFUSED_PAUSE_SECONDS)
