"""One trace from the request to the last attempt, in whichever process that is made."""

import subprocess
import sys

import pytest

from mailbbgun.settings.settings import Settings
from tests.flow.service import ROOT, Service, until
from tests.servers.process import free_port
from tests.tracing.collector import Collector, Span
from tests.waiting import PATIENCE

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HELLO = {"subject": "hello", "text": "hello"}


def send(service: Service, traceparent: str | None, *, quick: bool = True, **message: object) -> str:
    """Send a message, by the short cut or through Flask; return its id."""
    headers = {"traceparent": traceparent} if traceparent is not None else {}
    headers |= {} if quick else {"X-Unusual": "1"}
    answer = service.http.post(f"{service.url}/messages", json=HELLO | message, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _order(span: Span) -> int:
    return int(span.attributes.get("mailbbgun.claim_number", 0))


@pytest.mark.long
def test_one_trace_leads_from_the_request_to_the_attempt_of_another_worker(embedded_settings: Settings) -> None:
    with Collector() as collector, Service(embedded_settings, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as service:
        service.environment["OTEL_BSP_SCHEDULE_DELAY"] = "100"  # milliseconds
        service.kill("api")
        service.start_api()
        service.start_worker("first")
        sent = send(service, f"00-{TRACE}-{PARENT}-01", to="later-1-trace@example.com")
        until(lambda: "deferred" in service.kinds(sent), what="the first attempt")
        assert service.stop("first") == 0
        # A worker that is stopped sends what it has; the API sends soon.
        until(lambda: len(collector.of(TRACE)) == 2, what="two spans")
        service.start_worker("second")
        service.ended(sent, "DELIVERED")
        accepted, first, second = until(
            lambda: sorted(spans, key=_order) if len(spans := collector.of(TRACE)) == 3 else None, what="three spans"
        )
        assert (accepted.name, accepted.parent, accepted.service) == ("accept", PARENT, "mailbbgun")
        assert accepted.attributes["mailbbgun.message_id"] == sent
        assert accepted.attributes["mailbbgun.recipients"] == 1
        for span, outcome in ((first, "deferred"), (second, "delivered")):
            assert (span.name, span.parent, span.failed) == ("attempt", accepted.id, outcome == "deferred")
            assert span.attributes["mailbbgun.outcome"] == outcome
            assert span.attributes["mailbbgun.message_id"] == sent
            assert span.attributes["server.address"] == "127.0.0.1"
            assert 0 <= span.seconds < PATIENCE
        assert (first.attributes["mailbbgun.claim_number"], second.attributes["mailbbgun.claim_number"]) == (1, 2)

        # Each request without a valid context begins a trace of its own; the way through the API is no difference.
        begun = [
            send(service, header, quick=quick, to=f"new{n}@example.com")
            for n, (header, quick) in enumerate([(None, True), ("garbage", True), (None, False), ("00-0-0-00", False)])
        ]
        for one in begun:
            service.ended(one, "DELIVERED")
        slow = send(service, f"00-{'a' * 32}-{PARENT}-01", quick=False, to="flask@example.com")
        unsampled = send(service, f"00-{'b' * 32}-{PARENT}-00", to="unsampled@example.com")
        for one in (slow, unsampled):
            service.ended(one, "DELIVERED")
        until(lambda: len(collector.spans) == 3 + 2 * len(begun) + 2, what="all spans")
        traces = {span.trace for span in collector.spans}
        assert len(traces) == 1 + len(begun) + 1
        assert sorted(span.name for span in collector.of("a" * 32)) == ["accept", "attempt"]
        assert collector.of("b" * 32) == []


def test_a_collector_that_is_away_delays_no_mail(embedded_settings: Settings) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with Service(embedded_settings, OTEL_EXPORTER_OTLP_ENDPOINT=away) as service:
        service.start_worker()
        service.ended(send(service, None, to="away@example.com"), "DELIVERED")
        assert service.stop("worker") == 0


@pytest.mark.parametrize("program", ["mailbbgun.app", "mailbbgun.worker.main"])
def test_nothing_of_opentelemetry_is_imported_if_no_traces_are_wanted(
    program: str, embedded_settings: Settings
) -> None:
    code = f"""
import sys, {program}
from mailbbgun.services import build
from mailbbgun.settings.load import load
assert build(load()).traces is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {"MAILBBGUN_VAR": str(embedded_settings.var), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=PATIENCE)


def test_without_the_libraries_one_line_says_which_to_install(embedded_settings: Settings) -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.services import build
from mailbbgun.settings.load import load
try:
    build(load())
except ConfigurationError as error:
    print(error)
"""
    environment = {"MAILBBGUN_VAR": str(embedded_settings.var), "PATH": ""}
    environment["MAILBBGUN_OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("OTEL_EXPORTER_OTLP_ENDPOINT: traces need libraries that are not installed")
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in done.stdout
