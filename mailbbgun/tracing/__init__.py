"""Traces of messages, by OpenTelemetry: one trace from the request to the last attempt.

In: the ``traceparent`` of a request (W3C Trace Context), and what happens to its message. Out: spans, sent by OTLP
to OTEL_EXPORTER_OTLP_ENDPOINT. The context is kept with the message, so any worker continues the trace.

Promise: without that setting nothing of OpenTelemetry is imported. A collector that is away or slow delays no mail:
a thread sends the spans, and drops them if there are too many.

Files: ``spans`` is what other rooms know, ``otel`` makes spans; only ``services.py`` imports that.
"""
