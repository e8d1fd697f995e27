"""Assembles the HTTP service: settings, services, the rooms' views, health and documentation."""

from collections.abc import Callable
from importlib.metadata import distribution
from typing import Any

from flask import Blueprint, Flask, Request, Response, request, send_from_directory
from flask.sessions import NullSession, SessionInterface
from marshmallow import Schema, fields
from werkzeug.middleware.proxy_fix import ProxyFix

from mailbbgun import __version__
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
from mailbbgun.batches.individually import Individually
from mailbbgun.composing import mime
from mailbbgun.core import logs
from mailbbgun.core.hosts import Hosts
from mailbbgun.counters.keeping import API, Keeper
from mailbbgun.domains import api as domains
from mailbbgun.domains.look import LIMIT as DNS_SECONDS
from mailbbgun.domains.look import DomainChecks
from mailbbgun.domains.signing import DomainKeys
from mailbbgun.events import api as events
from mailbbgun.events.following.watch import EventWatch
from mailbbgun.explain import api as explain
from mailbbgun.explain.dry_run import DryInspector, DryRun
from mailbbgun.exports import api as exports
from mailbbgun.exports.running import RunningExports
from mailbbgun.exposure import check_was_made
from mailbbgun.http import gate
from mailbbgun.http.blueprint import SECURITY_SCHEMES, Api
from mailbbgun.http.blueprint import Blueprint as RoomBlueprint
from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.http.provided import EXTENSION, provide, provided
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.responses import HEALTHY, JSON, SECURE, secured
from mailbbgun.http.uploads.admission import UPLOAD_SETTINGS, UploadRoutes, admit_uploads
from mailbbgun.http.uploads.multipart import FormLimits
from mailbbgun.http.urls import address_of
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages import api as messages
from mailbbgun.messages.publisher import Publisher
from mailbbgun.metrics import api as metrics_api
from mailbbgun.metrics.api import shows_metrics_key
from mailbbgun.metrics.metrics import Metrics
from mailbbgun.oversight import api as oversight
from mailbbgun.preflight import DatabaseCheck, Readiness, self_test
from mailbbgun.recipients.budget import BATCH_SECONDS
from mailbbgun.routing.routes import resolver
from mailbbgun.services import Services, build
from mailbbgun.settings import running
from mailbbgun.settings.running import Running
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
    webhooks,
    alerts,
    tenants,
    metrics_api,
)

_SERVICE = ("service.welcome", "service.health", "service.ready")

#: The pages of recipients, whose links are signed.
_UNSUBSCRIBE = ("suppressions.ask_to_unsubscribe", "suppressions.unsubscribe_now")

#: The image and the links of tracked mail, whose URLs are signed.
_TRACKED = ("tracking.opened", "tracking.clicked")

#: Endpoints that need no key: they show nobody's data, or their URL is signed.
OPEN = (
    *_SERVICE,
    *_UNSUBSCRIBE,
    *_TRACKED,
    "attachments.put_upload",
    "assets.asset",
    "api-docs.openapi_json",
    "api-docs.openapi_swagger_ui",
    "api-docs.openapi_redoc",
)

#: Endpoints that Kubernetes, load balancers and Prometheus ask for by IP address.
PROBES = ("service.health", "service.ready", "metrics.metrics")

#: The Content-Security-Policy of the documentation pages. Swagger UI needs the script in its page,
#: ReDoc searches in a web worker. Neither may load anything from another site.
PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src blob:; frame-ancestors 'none'"
)

DESCRIPTION = """Hand over a message by `POST /messages`; read what became of it by `GET /messages/{id}`.

Every error has one shape, shown below as `Error`; its `code` is stable. Lists take `limit`, `offset` and `after`."""


class _NoSessions(SessionInterface):
    """No sessions. Flask's own interface would look for a cookie and a key with each request."""

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return _NO_SESSION


_NO_SESSION = NullSession()


class _App(Flask):
    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func  # no view is a coroutine, and Flask's check of each function takes time


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Return the WSGI application. Waits for no server: while the database is away, it answers 503.

    Without ``settings`` and ``services``, it uses those that the running API keeps
    (``settings/running.py``). Raises :class:`ConfigurationError`.
    """
    given = settings or (services and services.settings)
    kept = Running(given, database_found=True) if given else running.current()
    settings = kept.settings
    logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
    check_was_made()
    self_test(settings)
    services = services or build(settings)
    database = DatabaseCheck(services, found=kept.database_found)
    app = _App("mailbbgun", static_folder=None)
    app.json = JSON(app)
    app.url_map.merge_slashes = False  # no redirects: an unknown path is 404
    app.config.update(MAX_CONTENT_LENGTH=settings.MAX_BODY_SIZE, **_DOCUMENTATION)
    _assemble(app, settings, services, database)
    if settings.PROXIES:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.PROXIES, x_proto=1, x_host=0)  # type: ignore[method-assign]  # Flask's own way
    return app


def _assemble(app: Flask, settings: Settings, services: Services, database: DatabaseCheck) -> None:
    """Provide what views work with, add the rooms' views, and put the gate before them."""
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
    inspector = Inspector(services)
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
    signing = (DomainKeys(services.vault), DomainChecks(lambda: resolver(settings, DNS_SECONDS), settings.API_THREADS))
    dry_run = explain.door(DryRun(services, trying, signing[0]))
    checks = (Readiness(services, database), database, Refusals(), form_limits(settings), _metrics(services))
    doors = (acceptor, batcher, many, dry_run, quick, links, keys, tracking.Visits(), inspector)
    to_slack = (SlackDoor(settings, services.db, acceptor), SlackTests(settings))
    readers = (ByHand(services), EventWatch(services.db), RunningExports(), failed)
    others = (authenticator, rates, tests, hosts)
    provide(app, services, store, publisher, *doors, *to_slack, *readers, *others, *checks, *signing)
    _add_rooms(app)
    gate.guard(app, authenticator, rates, OPEN, PROBES, database.require, shows_metrics_key(settings), failed.count)
    _take_uploads(app, settings)
    app.after_request(_secured)


def _add_rooms(app: Flask) -> None:
    api = Api(app)
    for room in ROOMS:
        api.register_blueprint(room.blueprint)
    api.register_blueprint(_service)
    app.register_blueprint(_assets)


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


def begin(app: Flask) -> None:
    """Begin what a process does besides answering. Call this after the fork, in each process."""
    with app.app_context():
        provided(Metrics).keeper.start()


def close(app: Flask) -> None:
    """Publish the hints that are waiting, and close every connection."""
    with app.app_context():
        provided(DatabaseCheck).close()
        provided(Readiness).close()
        provided(Store).close()
        provided(Publisher).close()
        provided(EventWatch).close()
        provided(Authenticator).close()
        provided(Rates).close()
        provided(Refusals).close()
        provided(Metrics).close()
        provided(ByHand).close()
        provided(FailedLogins).write()
        provided(Services).close()


class HealthAnswer(Schema):
    """Says that the process is alive."""

    status = fields.String(metadata={"example": "ok"})


class Parts(HealthAnswer):
    """Says which parts of the service work."""

    parts = fields.Dict(
        fields.String(),
        fields.String(),
        metadata={"example": {"database": "ok", "queue": "ok", "blobs": "ok", "worker": "ok"}},
    )


_service = RoomBlueprint("service", __name__, description="The service itself.")
_assets = Blueprint("assets", __name__, url_prefix="/docs/assets")


class Welcome(Schema):
    """Says what this service is, and where to read on."""

    service = fields.String(metadata={"example": "Mail BB Gun"})
    version = fields.String()
    documentation = fields.String(metadata={"format": "uri-reference"})


@_service.route("/")
@_service.response(200, Welcome)
def welcome() -> Any:
    """Say what this is"""
    return {
        "service": "Mail BB Gun",
        "version": __version__,
        "documentation": address_of("api-docs.openapi_swagger_ui"),
    }


@_service.route("/health")
@_service.response(200, HealthAnswer)
def health() -> Any:
    """Say that the process is alive"""
    return HEALTHY


@_service.route("/ready")
@_service.response(200, Parts)
@_service.alt_response(503, schema=Parts, description="Something does not work; `parts` says what.")
def ready() -> Any:
    """Say whether database, queue, store of files and a worker are there"""
    parts = provided(Readiness).parts()
    if all(part == "ok" for part in parts.values()):
        return {"status": "ok", "parts": parts}
    return {"status": "unavailable", "parts": parts}, 503, {"Retry-After": "5"}


@_assets.get("/<path:name>")
def asset(name: str) -> Response:
    # Found without importing the package, which would need Django.
    folder = distribution("drf-spectacular-sidecar").locate_file(
        "drf_spectacular_sidecar/static/drf_spectacular_sidecar"
    )
    return send_from_directory(str(folder), name, max_age=86_400)


def _secured(answer: Response) -> Response:
    page = request.endpoint in ("api-docs.openapi_swagger_ui", "api-docs.openapi_redoc")
    return secured(answer, PAGES if page else SECURE["Content-Security-Policy"])


_DOCUMENTATION: dict[str, Any] = {
    "API_TITLE": "Mail BB Gun",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": "docs",
    "OPENAPI_SWAGGER_UI_URL": "/docs/assets/swagger-ui-dist/",
    "OPENAPI_SWAGGER_UI_CONFIG": {"validatorUrl": None},
    "OPENAPI_REDOC_PATH": "redoc",
    "OPENAPI_REDOC_URL": "/docs/assets/redoc/bundles/redoc.standalone.js",
    "API_SPEC_OPTIONS": {"info": {"description": DESCRIPTION}, "components": {"securitySchemes": SECURITY_SCHEMES}},
}
