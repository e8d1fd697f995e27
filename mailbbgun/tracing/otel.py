"""Spans by the OpenTelemetry SDK, sent by OTLP over HTTP.

The SDK itself reads its variables from the environment: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE and others.
"""

import threading
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mailbbgun import __version__
from mailbbgun.tracing.spans import Attributes

#: Seconds that closing waits for spans to be sent.
CLOSE_SECONDS = 3.0

_HEADER = "traceparent"
_NEW_TRACE = Context()


class OpenTelemetry:
    """Makes spans, and sends them to ``endpoint`` from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        self._propagator = TraceContextTextMapPropagator()
        ours = Resource({SERVICE_NAME: "mailbbgun", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mailbbgun", __version__)

    def begin(self, name: str, parent: str | None, *, server: bool = False) -> "OtelSpan":
        """Begin a span: see :class:`~mailbbgun.tracing.spans.Traces`."""
        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        span = self._tracer.start_span(name, self._context(parent), kind)
        return OtelSpan(span)

    def passed(self, name: str, parent: str, seconds: float, attributes: Attributes, error: str = "") -> None:
        """Make a span of what has just ended: see :class:`~mailbbgun.tracing.spans.Traces`."""
        began = time.time_ns() - round(seconds * 1e9)
        span = self._tracer.start_span(name, self._context(parent), SpanKind.CLIENT, start_time=began)
        OtelSpan(span).end(attributes, error)

    def close(self) -> None:
        """Send the spans that are left."""
        # By itself it would wait for a collector that is away for its own timeouts, which add up to half a minute.
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _context(self, parent: str | None) -> Context:
        return self._propagator.extract({_HEADER: parent}, _NEW_TRACE) if parent else _NEW_TRACE


class OtelSpan:
    """A span of the SDK that has begun."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """The context for spans that continue this trace."""
        its = self._span.get_span_context()
        return f"00-{its.trace_id:032x}-{its.span_id:016x}-{int(its.trace_flags):02x}"

    def end(self, attributes: Attributes, error: str = "") -> None:
        """End the span."""
        self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()
