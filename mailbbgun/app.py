"""The HTTP service, assembled: settings, services, one line for each room, health and documentation."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from typing import Any

from flask import Blueprint, Flask, Request, Response, request, send_from_directory
from flask.sessions import NullSession, SessionInterface
from marshmallow import Schema, fields
from sqlalchemy import select
from werkzeug.middleware.proxy_fix import ProxyFix

from mailbbgun import __version__
from mailbbgun.accept import api as accept
from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.quick import Quick
from mailbbgun.accept.store import Store
from mailbbgun.core import logs
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.core.hosts import Hosts
from mailbbgun.deliver import api as deliver
from mailbbgun.deliver import workers
from mailbbgun.events import api as events
from mailbbgun.exposure import check_was_made
from mailbbgun.http import gate, web
from mailbbgun.http.refusals import Refusals
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages import api as messages
from mailbbgun.messages import mime
from mailbbgun.messages.publisher import Publisher
from mailbbgun.preflight import DatabaseCheck, self_test
from mailbbgun.services import Services, build
from mailbbgun.settings import running
from mailbbgun.settings.running import Running
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts import api as smtp_accounts
from mailbbgun.smtp_accounts.connection_test import ConnectionTests
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.tenants import api as tenants
from mailbbgun.tenants.authenticate import Authenticator

ROOMS = (accept, messages, deliver, events, smtp_accounts, tenants)  # each has a blueprint

# Who asks for these needs no key: they tell nothing of anybody.
_SERVICE = ("service.welcome", "service.health", "service.ready")
OPEN = (*_SERVICE, "assets.asset", "api-docs.openapi_json", "api-docs.openapi_swagger_ui", "api-docs.openapi_redoc")

# Kubernetes and load balancers ask for these by IP address.
PROBES = ("service.health", "service.ready")

READY_SECONDS = 4.0  # for each part to answer

# Swagger UI starts itself by a script in its page; ReDoc searches in a worker. Neither may load anything from elsewhere.
PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; "
    "frame-ancestors 'none'"
)

DESCRIPTION = """Hand over a message by `POST /messages`; read what became of it by `GET /messages/{id}`.

Every error has one shape, shown below as `Error`; its `code` is stable. Lists take `limit`, `offset` and `after`."""


class _NoSessions(SessionInterface):  # Flask's own would look for a cookie and a key to sign it
    def open_session(self, app: Flask, request: Request) -> NullSession:
        return _NO_SESSION


_NO_SESSION = NullSession()


class _App(Flask):
    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func  # no view is a coroutine, and asking each layer of one again and again is not free


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Return the WSGI application. Asks no server anything: it starts, and answers 503, while the database is away.

    Without ``settings``, and without ``services``, they are those that the running API keeps. Raises :class:`ConfigurationError`.
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
    app.json = web.JSON(app)
    app.url_map.merge_slashes = False  # nothing redirects: what is not there is 404
    app.config.update(MAX_CONTENT_LENGTH=settings.MAX_BODY_SIZE, **_DOCUMENTATION)
    store = Store(services.db, settings.IDEMPOTENCY_SECONDS)
    per_minute = settings.RATE_LIMIT_PER_MINUTE
    authenticator = Authenticator(
        services.db,
        services.vault,
        identities,
        required=settings.AUTH_REQUIRED,
        per_minute=per_minute,
        outages=services.outages,
    )
    rates = Rates(
        processes=settings.api_processes, unauthorized=settings.UNAUTHORIZED_PER_MINUTE, redis_url=settings.REDIS_URL
    )
    publisher = Publisher(services.db, services.queue, services.outages)
    hosts = Hosts(any_served=settings.AUTH_REQUIRED, allowed=settings.ALLOWED_HOSTS, public=settings.PUBLIC_URL)
    acceptor = Acceptor(settings, store, publisher)
    quick = Quick(settings, acceptor, authenticator, rates, hosts, lambda: database.passed)
    tests = ConnectionTests(settings, mime.note)
    readiness = Readiness(services, database)
    web.provide(
        app,
        services,
        store,
        publisher,
        acceptor,
        readiness,
        authenticator,
        rates,
        tests,
        quick,
        hosts,
        Refusals(),
        database,
    )
    api = web.Api(app)
    for room in ROOMS:
        api.register_blueprint(room.blueprint)
    api.register_blueprint(_service)
    app.register_blueprint(_assets)
    gate.guard(app, authenticator, rates, OPEN, PROBES, database.require)
    app.after_request(_secured)
    if settings.PROXIES:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.PROXIES, x_proto=1, x_host=0)  # type: ignore[method-assign]  # Flask's own way
    return app


def close(app: Flask) -> None:
    """Publish what is waiting and close every connection."""
    with app.app_context():
        web.provided(DatabaseCheck).close()
        web.provided(Readiness).close()
        web.provided(Store).close()
        web.provided(Publisher).close()
        web.provided(Authenticator).close()
        web.provided(Rates).close()
        web.provided(Refusals).close()
        web.provided(Services).close()


class Readiness:
    """Asks every part whether it works, at once, and waits a bounded time. A part that hangs holds its thread, not the request."""

    def __init__(self, services: Services, check: DatabaseCheck) -> None:
        self._services, self._check = services, check
        self._parts: Mapping[str, Callable[[], str]] = {
            "database": self._database,
            "queue": self._queue,
            "worker": self._worker,
        }
        self._threads = ThreadPoolExecutor(max_workers=len(self._parts), thread_name_prefix="ready")
        self._looking = threading.Lock()
        self._found = dict.fromkeys(self._parts, "not known yet: the first look goes on")

    def parts(self) -> dict[str, str]:
        """Return ``ok`` or what is wrong, by part.

        One request looks at a time: who asks meanwhile gets what was found before, or strangers could keep every thread
        waiting for a part that hangs.
        """
        if self._looking.acquire(blocking=False):
            try:
                self._found = self._look()
            finally:
                self._looking.release()
        return dict(self._found)

    def _look(self) -> dict[str, str]:
        asked = {name: self._threads.submit(part) for name, part in self._parts.items()}
        answers = {}
        for name, future in asked.items():
            try:
                answers[name] = future.result(READY_SECONDS)
            except TimeoutError:
                future.cancel()
                answers[name] = f"no answer in {READY_SECONDS:.0f} s"
            except MailBBGunError as error:
                answers[name] = str(error)
        return answers

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _database(self) -> str:
        self._check.require()
        with self._services.db.read() as session:
            session.scalar(select(1))
        self._services.db.check_writable()
        return "ok"

    def _queue(self) -> str:
        self._services.queue.check()
        return "ok"

    def _worker(self) -> str:
        self._check.require()  # where there is no register of workers, nobody can tell
        with self._services.db.read() as session:
            alive = workers.any_alive(session)
        return "ok" if alive else workers.NONE_ALIVE


class HealthAnswer(Schema):
    """That the process is alive."""

    status = fields.String(metadata={"example": "ok"})


class Parts(HealthAnswer):
    """What of the service works."""

    parts = fields.Dict(
        fields.String(), fields.String(), metadata={"example": {"database": "ok", "queue": "ok", "worker": "ok"}}
    )


_service = web.Blueprint("service", __name__, description="The service itself.")
_assets = Blueprint("assets", __name__, url_prefix="/docs/assets")


class Welcome(Schema):
    """What this is, and where to read on."""

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
        "documentation": web.address_of("api-docs.openapi_swagger_ui"),
    }


@_service.route("/health")
@_service.response(200, HealthAnswer)
def health() -> Any:
    """Say that the process is alive"""
    return {"status": "ok"}


@_service.route("/ready")
@_service.response(200, Parts)
@_service.alt_response(503, schema=Parts, description="Something does not work; `parts` says what.")
def ready() -> Any:
    """Say whether database, queue and a worker are there"""
    parts = web.provided(Readiness).parts()
    if all(part == "ok" for part in parts.values()):
        return {"status": "ok", "parts": parts}
    return {"status": "unavailable", "parts": parts}, 503, {"Retry-After": "5"}


@_assets.get("/<path:name>")
def asset(name: str) -> Response:
    # The folder is found without importing the package, which would want Django.
    folder = distribution("drf-spectacular-sidecar").locate_file(
        "drf_spectacular_sidecar/static/drf_spectacular_sidecar"
    )
    return send_from_directory(str(folder), name, max_age=86_400)


def _secured(answer: Response) -> Response:
    page = request.endpoint in ("api-docs.openapi_swagger_ui", "api-docs.openapi_redoc")
    return web.secured(answer, PAGES if page else web.SECURE["Content-Security-Policy"])


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
    "API_SPEC_OPTIONS": {"info": {"description": DESCRIPTION}, "components": {"securitySchemes": web.SECURITY_SCHEMES}},
}
