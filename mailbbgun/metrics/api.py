"""``GET /metrics``: the metrics for Prometheus."""

from collections.abc import Callable

from flask import Response, request

from mailbbgun.core.caller import Scope
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import needs
from mailbbgun.http.provided import provided
from mailbbgun.metrics.keys import shows_key
from mailbbgun.metrics.metrics import Metrics
from mailbbgun.settings.settings import Settings

blueprint = Blueprint("metrics", __name__, description="What the service counts, for Prometheus.")


@blueprint.route("/metrics")
@blueprint.response(
    200, {"type": "string"}, content_type="text/plain", description="In Prometheus' text format, or OpenMetrics."
)
@needs(Scope.ADMIN)
def metrics() -> Response:
    """Show the metrics for Prometheus

    By `METRICS_KEY` as a bearer token, which also works while the database is away, or by a key with the scope
    `admin`. Without `AUTH_REQUIRED` it needs no key, as nothing does.
    """
    body, content_type = provided(Metrics).text(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


def shows_metrics_key(settings: Settings) -> Callable[[], bool]:
    """Return the function that says whether the present request may read the metrics without an API key."""

    def may_read() -> bool:
        if request.endpoint != "metrics.metrics":
            return False
        if not settings.AUTH_REQUIRED:  # then nothing needs a key
            return True
        return bool(settings.METRICS_KEY) and shows_key(request.headers.get("Authorization"), settings.METRICS_KEY)

    return may_read
