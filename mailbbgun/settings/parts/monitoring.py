"""The settings of metrics for Prometheus and of OpenTelemetry traces."""

from dataclasses import dataclass

from mailbbgun.settings.parts.statistics import StatisticsSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings(StatisticsSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    METRICS_KEY: str = setting(
        "",
        "The key that GET /metrics asks for (Authorization: Bearer), at least 20 characters. It opens nothing else, "
        "and works while the database is away. An API key with the scope admin does as "
        "well. Without AUTH_REQUIRED no key is needed.",
    )
    METRICS_HOST: str = setting(
        "127.0.0.1",
        "Address on which a worker.py serves its metrics if METRICS_PORT is set. One that is not a loopback address "
        "needs METRICS_KEY.",
    )
    METRICS_PORT: int = setting(
        0,
        "Port on which a worker.py serves the metrics of its processes, for workers on machines without an API. "
        "GET /metrics of the API then leaves out workers. 0: none; the API shows the workers of its machine.",
        least=0,
        most=65_535,
    )
    METRICS_ACCOUNTS: int = setting(
        100,
        "SMTP accounts that have their own labels in the metrics of one process. Further ones are counted as other.",
        least=0,
        most=10_000,
    )
    OTEL_EXPORTER_OTLP_ENDPOINT: str = setting(
        "",
        "Where traces are sent by OTLP over HTTP, like http://collector.example.com:4318; /v1/traces is added. Needs "
        "the libraries that the manual names. The SDK's own variables such as OTEL_TRACES_SAMPLER and "
        "OTEL_EXPORTER_OTLP_HEADERS are read from the environment. Empty: no traces.",
    )
