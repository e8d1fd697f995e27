"""What the HTTP service is made of: the objects that views work with, and every room that has views."""

from flask import Flask

from mailbbgun.accept import api as accept
from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.quick import Quick
from mailbbgun.accept.store import Store
from mailbbgun.alerts import api as alerts
from mailbbgun.alerts.figures.reports import FailedLogins
from mailbbgun.attachments import api as attachments
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.batches import api as batches
from mailbbgun.batches.assemble import batcher_of
from mailbbgun.batches.batching import Batcher
from mailbbgun.batches.individually import Individually
from mailbbgun.composing import mime
from mailbbgun.core.hosts import Hosts
from mailbbgun.counters.keeping import API, Keeper
from mailbbgun.counters.requests import RequestCounts
from mailbbgun.domains import api as domains
from mailbbgun.domains.dns.look import LIMIT as DNS_SECONDS
from mailbbgun.domains.dns.look import DomainChecks
from mailbbgun.domains.local import LocalDomains
from mailbbgun.domains.signing import DomainKeys
from mailbbgun.events import api as events
from mailbbgun.events import causes
from mailbbgun.events.changes.refused_files import RefusedFiles
from mailbbgun.events.following.watch import EventWatch
from mailbbgun.explain import api as explain
from mailbbgun.explain.dry_run import DryInspector, DryRun
from mailbbgun.exports import api as exports
from mailbbgun.exports.running import RunningExports
from mailbbgun.files import api as files
from mailbbgun.http import gate
from mailbbgun.http.blueprint import Api
from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.http.provided import EXTENSION, provide
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.uploads.admission import UPLOAD_SETTINGS, UploadRoutes, admit_uploads
from mailbbgun.http.uploads.multipart import FormLimits
from mailbbgun.inbound_routes import api as inbound_routes
from mailbbgun.licences import api as licences
from mailbbgun.licences.limit import PublicRequests
from mailbbgun.limits.request_rates import Rates
from mailbbgun.mailbox_messages import api as mailbox_messages
from mailbbgun.mailboxes import api as mailboxes
from mailbbgun.messages import api as messages
from mailbbgun.messages.publisher import Publisher
from mailbbgun.metrics import api as metrics_api
from mailbbgun.metrics.api import shows_metrics_key
from mailbbgun.metrics.metrics import Metrics
from mailbbgun.oversight import api as oversight
from mailbbgun.preflight import DatabaseCheck, Readiness
from mailbbgun.recipients.budget import BATCH_SECONDS
from mailbbgun.routing.ways_out import resolver
from mailbbgun.runtime import api as runtime
from mailbbgun.runtime.figures import ServiceFigures
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.runtime.live import LiveSettings
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.slack import api as slack
from mailbbgun.slack.sending import SlackDoor
from mailbbgun.slack_accounts import api as slack_accounts
from mailbbgun.slack_accounts.connection_test import SlackTests
from mailbbgun.smtp_accounts import api as smtp_accounts
from mailbbgun.smtp_accounts.connection_test import ConnectionTests
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.statistics import api as statistics
from mailbbgun.suppressions import api as suppressions
from mailbbgun.suppressions.links import UnsubscribeLinks
from mailbbgun.templates import api as templates
from mailbbgun.templates.resolve import Templates
from mailbbgun.tenants import api as tenants
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.tracking import api as tracking
from mailbbgun.tracking.keys import TrackingKeys
from mailbbgun.webhooks import api as webhooks
from mailbbgun.webhooks.by_hand import ByHand

#: The rooms that have views. Each has a blueprint.
ROOMS = (
    accept,
    batches,
    messages,
    attachments,
    files,
    templates,
    oversight,
    events,
    explain,
    statistics,
    exports,
    suppressions,
    tracking,
    smtp_accounts,
    slack,
    slack_accounts,
    domains,
    mailbox_messages,
    mailboxes,
    inbound_routes,
    webhooks,
    alerts,
    licences,
    tenants,
    metrics_api,
    runtime,
)

_SERVICE = ("service.welcome", "service.health", "service.ready")

#: The pages of recipients, whose links are signed.
_UNSUBSCRIBE = ("suppressions.ask_to_unsubscribe", "suppressions.unsubscribe_now")

#: The image and the links of tracked mail, whose URLs are signed.
_TRACKED = ("tracking.opened", "tracking.clicked")

#: What the customers of tenants ask about licences. Tokens are signed; how often an address may ask is bounded.
_OF_LICENCES = tuple(f"licences.{one}" for one in ("verify", "activate", "heartbeat", "deactivate", "revoked", "jwks"))

#: Endpoints that need no key: they show nobody's data, or their URL is signed.
OPEN = (
    *_SERVICE,
    *_UNSUBSCRIBE,
    *_TRACKED,
    *_OF_LICENCES,
    "attachments.put_upload",
    "files.linked",
    "files.put_linked",
    "assets.asset",
    "api-docs.openapi_json",
    "api-docs.openapi_swagger_ui",
    "api-docs.openapi_redoc",
)

#: Endpoints that Kubernetes, load balancers and Prometheus ask for by IP address.
PROBES = ("service.health", "service.ready", "metrics.metrics")


def assemble(app: Flask, settings: Settings, services: Services, database: DatabaseCheck) -> Api:
    """Provide what views work with, add the rooms' views, and put the gate before them; return the API with these."""
    store = Store(services.db, settings.IDEMPOTENCY_SECONDS, services.counters)
    authenticator = _authenticator(services)
    rates = Rates(
        processes=settings.api_processes, unauthorized=settings.UNAUTHORIZED_PER_MINUTE, redis_url=settings.REDIS_URL
    )
    failed = FailedLogins(services.db)
    publisher = Publisher(services.db, services.queue, services.outages)
    hosts = Hosts(any_served=settings.AUTH_REQUIRED, allowed=settings.ALLOWED_HOSTS, public=settings.PUBLIC_URL)
    links = UnsubscribeLinks(services.db, services.vault, settings.PUBLIC_URL)
    keys = TrackingKeys(services.db, services.vault, settings.PUBLIC_URL)
    inspector = Inspector(services, RefusedFiles(services.db).tell)
    acceptor, trying = (
        Acceptor(
            settings, store, publisher, Attached(services, judge), Templates(services.db), links, keys, services.traces
        )
        for judge in (inspector, DryInspector(services))
    )
    batcher = batcher_of(settings, services.db, publisher, acceptor, services.counters, template_seconds=BATCH_SECONDS)
    many = _many(Individually(settings, acceptor, batcher))
    quick = Quick(settings, acceptor, authenticator, rates, hosts, lambda: database.passed)
    tests = ConnectionTests(settings, mime.note)
    dns = DomainChecks(lambda: resolver(settings, DNS_SECONDS), settings.API_THREADS)
    signing = (DomainKeys(services.vault), dns, LocalDomains(services.db))
    shows = (explain.door(DryRun(services, trying, signing[0])), causes.door(services.db))
    checks = (Readiness(services, database), database, Refusals(), form_limits(settings), _metrics(services))
    doors = (acceptor, batcher, many, *shows, quick, links, keys, tracking.Visits(), inspector)
    to_slack = (SlackDoor(settings, services.db, acceptor), SlackTests(settings))
    readers = (ByHand(services), EventWatch(services.db), RunningExports(), failed)
    of_licences = PublicRequests(settings.LICENCE_REQUESTS_PER_MINUTE, settings.api_processes)
    follower = _follower(services, database, store, batcher, authenticator, rates, of_licences)
    figures = (ServiceFigures(services), RequestCounts(services.counters))
    others = (authenticator, rates, tests, hosts, of_licences, follower, *figures)
    provide(app, services, store, publisher, *doors, *to_slack, *readers, *others, *checks, *signing)
    gate.guard(app, authenticator, rates, OPEN, PROBES, database.require, shows_metrics_key(settings), failed.count)
    _take_uploads(app, settings)
    return _with_rooms(app)


def _follower(
    services: Services,
    database: DatabaseCheck,
    store: Store,
    batcher: Batcher,
    authenticator: Authenticator,
    rates: Rates,
    of_licences: PublicRequests,
) -> RuntimeFollower:
    """Return what keeps this process's settings as the database has them, also in what has copies of them."""
    settings = services.settings
    live = LiveSettings(settings)

    def follow(changed: frozenset[str]) -> None:
        store.remembered, rates.unauthorized = settings.IDEMPOTENCY_SECONDS, settings.UNAUTHORIZED_PER_MINUTE
        batcher.remember(settings.IDEMPOTENCY_SECONDS)
        of_licences.per_minute = settings.LICENCE_REQUESTS_PER_MINUTE
        if "RATE_LIMIT_PER_MINUTE" in changed:
            authenticator.limit(settings.RATE_LIMIT_PER_MINUTE)

    live.then(follow)
    return RuntimeFollower(services.db, live, services.outages, ready=lambda: database.passed)


def _with_rooms(app: Flask) -> Api:
    api = Api(app)
    for room in ROOMS:
        api.register_blueprint(room.blueprint)
    return api


def _many(individually: Individually) -> accept.ManyDoor:
    return accept.ManyDoor(lambda *given: batches.answer(individually.accept(*given)))


def _authenticator(services: Services) -> Authenticator:
    settings = services.settings
    return Authenticator(
        services.db,
        services.vault,
        identities,
        required=settings.AUTH_REQUIRED,
        per_minute=settings.RATE_LIMIT_PER_MINUTE,
        outages=services.outages,
    )


def _metrics(services: Services) -> Metrics:
    return Metrics(services, Keeper(services.counters, services.settings.counters_folder, API))


def _take_uploads(app: Flask, settings: Settings) -> None:
    """Tell the server which requests are uploads, and let it ask which of them may come."""
    limit = BodyLimit(settings.max_upload_size, UPLOAD_SETTINGS)
    app.extensions[EXTENSION][UploadRoutes] = UploadRoutes(app, limit)
    admit_uploads(app)


def form_limits(settings: Settings) -> FormLimits:
    """Return the limits of a form with files."""
    return FormLimits(settings.MAX_FILES_PER_REQUEST, settings.MAX_FILE_SIZE, settings.MAX_BODY_SIZE)
