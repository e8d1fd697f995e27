"""The logs of a whole run with failures: JSON lines without secrets and without mail."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.servers import PostgreSQL

CANARIES = {name: f"canary-{name}-7f3a" for name in ("body", "html", "smtp", "database")}


@pytest.fixture
def logged(tmp_path: Path, breakable_postgresql: PostgreSQL) -> Iterator[Service]:
    """A service that logs JSON lines at DEBUG, with passwords for database and SMTP server."""
    name = breakable_postgresql.create_database()
    database = make_url(breakable_postgresql.url(name)).set(password=CANARIES["database"])
    given = {
        "VAR": tmp_path / "var",
        "DATABASE_URL": database.render_as_string(hide_password=False),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
    }
    service = Service(load({f"MAILBBGUN_{name}": str(value) for name, value in given.items()}), SWEEP_SECONDS=1)
    use_relay(service, f"robot:{CANARIES['smtp']}@")
    with service:
        yield service
    breakable_postgresql.drop_database(name)


def use_relay(service: Service, login: str) -> None:
    service.environment["MAILBBGUN_SMTP_URL"] = f"smtp://{login}127.0.0.1:{service.sink_port}?security=none"


def check_lines(path: Path, sent: list[str]) -> None:
    """Check that a log has JSON lines only, no canary, a warning and the id of each message."""
    lines = path.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert all({"time", "level", "event"} <= set(event) for event in events)
    assert [event for event in events if event["level"] == "warning"]
    assert not [line for line in lines for canary in CANARIES.values() if canary in line]
    assert set(sent) <= {event.get("message_id") for event in events}


@pytest.mark.long
def test_log_lines_are_json_without_bodies_and_passwords(logged, breakable_postgresql):
    service = logged
    service.start_worker()
    body = {"text": CANARIES["body"], "html": f"<p>{CANARIES['html']}</p>"}
    names = ("ann", "never-ann", "lost-ann", "later-1-ann")
    sent = [service.post(to=f"{name}@example.test", **body)["id"] for name in names]
    # The sink offers no AUTH but the settings ask for it, so nothing is sent yet.
    until(lambda: service.events("refused"), what="a refusal")
    service.stop("worker")
    use_relay(service, "")
    service.start_worker()
    service.sql("UPDATE deliveries SET next_attempt_at = statement_timestamp()")
    until(lambda: service.count("PENDING") == 0)
    breakable_postgresql.stop()
    refused = service.http.post(f"{service.url}/messages", json={"to": "cis@example.test", "subject": "x"} | body)
    assert refused.status_code == 503
    until(lambda: "results cannot" in (out := (service.var / "worker.out").read_text()) or "does not answer" in out)
    breakable_postgresql.start()
    service.post(to="ben@example.test", **body)
    until(lambda: service.count("PENDING") == 0)
    service.stop("worker")
    for name in ("api", "worker"):
        check_lines(service.var / f"{name}.out", sent)
