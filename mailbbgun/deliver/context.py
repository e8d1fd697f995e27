"""The worker context: everything that the verbs of ``deliver.py`` need, in one value."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self
from uuid import UUID, uuid4

from sqlalchemy import select

from mailbbgun.attachments.inspection import Inspector
from mailbbgun.bounces import rules
from mailbbgun.bounces.classify import Classifier
from mailbbgun.core.clock import Clock
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import ATTEMPTS
from mailbbgun.database import leasing
from mailbbgun.database.db import Database
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.journal_turns import JournalTurns
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.results import Results
from mailbbgun.deliver.retry import Policy
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.domains.local import LocalDomains
from mailbbgun.domains.signing import DomainKeys
from mailbbgun.drivers.budget import Budget
from mailbbgun.inbound_routes.destination import RoutedMail
from mailbbgun.inbound_routes.posts.posting import InboundPosts
from mailbbgun.limits.permits import PermitStore
from mailbbgun.limits.rate_limiter import RateLimiter
from mailbbgun.limits.stores import permit_store
from mailbbgun.mailboxes.store import MailboxStore
from mailbbgun.messages.models import DELIVERIES, Delivery
from mailbbgun.messages.outgoing import ComposedMessages
from mailbbgun.messages.publisher import Publisher
from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.relays.local import Local
from mailbbgun.relays.posting.relay import Posts
from mailbbgun.return_paths.paths import ReturnPaths
from mailbbgun.return_paths.receive import Reports
from mailbbgun.routing.circuit_breaker import CircuitBreaker
from mailbbgun.routing.come_back_times import ComeBackTimes
from mailbbgun.routing.routes import Routes
from mailbbgun.routing.slack_source import StoredSlack
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Refused, Unknown
from mailbbgun.smtp_accounts.cache import AccountCache
from mailbbgun.tracing.spans import Traces

#: What outcomes are called in metrics and traces. Every attempt looks one up.
_OUTCOMES = {one: one.__name__.lower() for one in (Delivered, Deferred, Bounced, Unknown, Refused, Fenced)}


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything that the verbs of one worker process need.

    ``owner`` is the id in its leases. It is new at every start: a host name would be the same for
    the next process.
    """

    owner: UUID
    settings: Settings
    db: Database
    clock: Clock
    routes: Routes
    account_cache: AccountCache
    domain_keys: DomainKeys
    return_paths: ReturnPaths
    rate_limiter: RateLimiter
    permits: PermitStore
    breaker: CircuitBreaker
    come_back_times: ComeBackTimes
    composed: ComposedMessages
    journal: Journal
    journal_turns: JournalTurns
    leases: Leases
    publisher: Publisher
    results: Results
    classifier: Classifier
    spool_budget: Budget  # octets of messages in the spool folder
    counters: Counters
    traces: Traces | None

    @classmethod
    def open(cls, services: Services, owner: UUID | None = None, woken: Callable[[], None] = lambda: None) -> Self:
        """Set up a context.

        ``woken`` is called, from another thread, when an account's limits let mail go again. Raises
        :class:`ConfigurationError` if the journal cannot be written or ``SMTP_URL`` cannot be used.
        """
        settings = services.settings
        owner = owner or uuid4()
        permits = permit_store(settings, services.db)
        rate_limiter = RateLimiter(permits, woken)
        return_paths = ReturnPaths(services.db, services.vault, settings)
        journal = Journal(settings.journal_folder, owner)
        leases = Leases(owner, settings.LEASE_SECONDS, services.clock)
        publisher = Publisher(services.db, services.queue, services.outages)
        return cls(
            owner=owner,
            settings=settings,
            db=services.db,
            clock=services.clock,
            routes=_routes(services, rate_limiter, return_paths),
            account_cache=AccountCache(services.vault, settings),
            domain_keys=DomainKeys(services.vault),
            return_paths=return_paths,
            rate_limiter=rate_limiter,
            permits=permits,
            breaker=breaker(settings, services.clock),
            come_back_times=ComeBackTimes(services.clock),
            composed=ComposedMessages(services.db, services.blobs, Inspector(services), settings.spool_folder),
            journal=journal,
            journal_turns=JournalTurns(journal, leases),
            leases=leases,
            publisher=publisher,
            results=Results(owner, services.db, journal, leases, publisher, services.outages, services.counters),
            classifier=rules.classifier(settings.BOUNCE_RULES),
            spool_budget=Budget(settings.SPOOL_SIZE),
            counters=services.counters,
            traces=services.traces,
        )

    @property
    def policy(self) -> Policy:
        """The retry policy that the settings ask for now."""
        return policy(self.settings, self.classifier)

    def follow(self) -> None:
        """Let everything here that has copies of settings have them as they are now."""
        self.routes.follow()
        its = self.settings
        self.breaker.limit(its.REFUSED_PAUSE_SECONDS, failures=its.CIRCUIT_FAILURES, unreachable_pause=_pause(its))

    def close(self, timeout: float, *, stopped: bool = False) -> None:
        """Write the last results, for up to ``timeout`` seconds, and close everything.

        ``stopped``: this process was told to stop. The results that could not be written then do
        not count it as killed by its mail.
        """
        self.results.close(timeout)
        self.rate_limiter.close()
        self.permits.close()
        self.publisher.close()
        self.journal.close(keep=bool(self.leases.in_hand()) or self._may_have_unknown_claims(), stopped=stopped)

    def note_attempt(self, transaction: Transaction, outcomes: Mapping[str, Outcome]) -> None:
        """Count the outcomes of an attempt, and make its span."""
        kinds: dict[str, int] = {}
        for outcome in outcomes.values():
            kind = _OUTCOMES[type(outcome)]
            kinds[kind] = kinds.get(kind, 0) + 1
        if self.routes.has_server(transaction.route):
            labels = self.routes.account_labels(transaction.route)
            for kind in kinds.keys() - {"fenced"}:  # then nothing was tried
                self.counters.add(ATTEMPTS, kind, *labels, n=kinds[kind])
        if self.traces is None or transaction.traceparent is None or transaction.started is None:
            return
        first = next(iter(outcomes.values()))
        server, failed = getattr(first, "server", None), kinds.keys() - {"delivered"}
        told: dict[str, str | int | bool] = {
            "mailbbgun.message_id": str(transaction.message_id),
            "mailbbgun.outcome": ",".join(sorted(kinds)),
            "mailbbgun.recipients": len(outcomes),
            "mailbbgun.claim_number": transaction.claims[0].claim_number,
            "mailbbgun.account": self.routes.name(transaction.route) or "",
            **({"server.address": server.host} if server else {}),
            **({"network.peer.address": server.ip} if server and server.ip else {}),
        }
        seconds = self.clock.boot() - transaction.started
        error = str(getattr(first, "reply", "")) if failed else ""
        self.traces.passed("attempt", transaction.traceparent, seconds, told, error)

    def _may_have_unknown_claims(self) -> bool:
        """Return whether the database has claims of this worker that it does not know of.

        A claim can be committed by a database that dies before it says so. The journal's silence
        proves that nothing was sent for it.
        """
        known = {one.delivery_id for one in self.leases.in_hand()}
        try:
            with self.db.read() as session:
                claimed = session.scalars(
                    select(Delivery.id).where(*leasing.held_by(DELIVERIES, self.owner, expired_only=False))
                )
                return not known.issuperset(claimed)
        except DatabaseUnavailable:
            return True


def _routes(services: Services, rate_limiter: RateLimiter, return_paths: ReturnPaths) -> Routes:
    """Return all ways out. Raises :class:`ConfigurationError`."""
    settings = services.settings
    slack, local = StoredSlack(services.db, services.vault), local_relay(services, return_paths)
    http = HTTPClient.permitting(settings.ALLOW_PRIVATE_HOSTS, settings.HTTP_CA_FILE)
    posts = Posts(http, InboundPosts(services.db, services.vault))
    return Routes(settings, rate_limiter, services.counters, slack, local, return_paths, posts)


def local_relay(services: Services, return_paths: ReturnPaths) -> Local:
    """Return what delivers here: reports that came back are read, all other mail goes by routes and to mailboxes."""
    domains = LocalDomains(services.db)  # one for both: a domain must not be local to the one and not to the other
    mailboxes = RoutedMail(services, domains, MailboxStore(services, domains))
    its_rules = rules.classifier(services.settings.BOUNCE_RULES)
    return Local([Reports(services.db, return_paths, services.counters, mailboxes, its_rules), mailboxes])


def breaker(settings: Settings, clock: Clock) -> CircuitBreaker:
    """Return the circuit breaker that the settings ask for."""
    failures = settings.CIRCUIT_FAILURES
    return CircuitBreaker(settings.REFUSED_PAUSE_SECONDS, clock, failures=failures, unreachable_pause=_pause(settings))


def _pause(settings: Settings) -> float:
    """Return for how long an unreachable server is paused: less than mail that was deferred because of it waits."""
    return min(settings.CIRCUIT_PAUSE_SECONDS, min(settings.RETRY_DELAYS) / 2)


def policy(settings: Settings, classifier: Classifier | None = None) -> Policy:
    """Return the retry policy that the settings ask for. Without a ``classifier`` it is made, which takes longer."""
    hold = settings.ON_UNKNOWN == "hold"
    classifier = classifier or rules.classifier(settings.BOUNCE_RULES)
    return Policy(settings.RETRY_DELAYS, hold, random.random, settings.REFUSED_PAUSE_SECONDS, classifier)
