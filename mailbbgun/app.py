"""The WSGI application: settings, services, what ``assembly.py`` makes of them, health and documentation."""

from collections.abc import Callable
from importlib.metadata import distribution
from typing import Any

from flask import Blueprint, Flask, Request, Response, request, send_from_directory
from flask.sessions import NullSession, SessionInterface
from marshmallow import Schema, fields
from werkzeug.middleware.proxy_fix import ProxyFix

from mailbbgun import __version__
from mailbbgun.accept.store import Store
from mailbbgun.alerts.figures.reports import FailedLogins
from mailbbgun.assembly import assemble
from mailbbgun.core import logs
from mailbbgun.events.following.watch import EventWatch
from mailbbgun.exposure import check_was_made
from mailbbgun.http.blueprint import SECURITY_SCHEMES
from mailbbgun.http.blueprint import Blueprint as RoomBlueprint
from mailbbgun.http.provided import provided
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.responses import HEALTHY, JSON, SECURE, secured
from mailbbgun.http.urls import address_of
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages.publisher import Publisher
from mailbbgun.metrics.metrics import Metrics
from mailbbgun.preflight import DatabaseCheck, Readiness, self_test
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.services import Services, build
from mailbbgun.settings import running
from mailbbgun.settings.running import Running
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.webhooks.by_hand import ByHand

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
    api = assemble(app, settings, services, database)
    api.register_blueprint(_service)
    app.register_blueprint(_assets)
    app.after_request(_secured)
    if settings.PROXIES:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.PROXIES, x_proto=1, x_host=0)  # type: ignore[method-assign]  # Flask's own way
    return app


def begin(app: Flask) -> None:
    """Begin what a process does besides answering. Call this after the fork, in each process."""
    with app.app_context():
        provided(RuntimeFollower).look_if_possible()
        provided(RuntimeFollower).start()
        provided(Metrics).keeper.start()


def close(app: Flask) -> None:
    """Publish the hints that are waiting, and close every connection."""
    with app.app_context():
        provided(RuntimeFollower).close()
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
