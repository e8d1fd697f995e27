"""``GET /metrics``: what it shows, and to whom."""

import subprocess
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from mailbbgun.app import close, create_app
from mailbbgun.database.db import db_now
from mailbbgun.http.provided import provided
from mailbbgun.install import install
from mailbbgun.messages.models import Delivery
from mailbbgun.queues.lanes import shown
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests.http.conftest import Door
from tests.metrics.scraped import Scraped, scrape
from tests.servers import install as servers
from tests.waiting import wait_until

KEY = "a-key-of-twenty-characters"
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


def due(door: Door) -> dict[str, int]:
    """Return how many deliveries are due and not claimed, by lane."""
    counted = select(Delivery.lane, func.count()).where(
        Delivery.status == "PENDING", Delivery.lease_owner.is_(None), Delivery.next_attempt_at <= db_now()
    )
    with door.services.db.read() as session:
        found = session.execute(counted.group_by(Delivery.lane)).all()
    return {shown(lane): n for lane, n in found}


def test_the_api_shows_what_it_accepts_and_what_waits_for_whom(door: Door) -> None:
    before, name = scrape(door.url), "mailbbgun_accepted_messages_total"
    for priority in (1, 5, 9):
        door.send(priority=priority)

    def counted() -> Scraped | None:
        now = scrape(door.url)  # each process looks at the database every few seconds
        found = {lane: now.sum("mailbbgun_due_deliveries", lane=lane) for lane in due(door)}
        return now if found == due(door) and now.sum(name) >= before.sum(name) + 3 else None

    now = wait_until(counted, "the figures")
    for lane in ("high", "bulk"):
        assert now.sum(name, lane=lane) >= before.sum(name, lane=lane) + 1, lane
        assert now.sum("mailbbgun_oldest_due_seconds", lane=lane) > 0
    assert now.sum("mailbbgun_pending_deliveries", state="due") == now.sum("mailbbgun_due_deliveries")
    assert {one["lane"] for one in now.labels("mailbbgun_queue_hints")} == {"high", "normal", "overflow", "bulk"}
    assert now.sum("mailbbgun_database_up") == now.sum("mailbbgun_queue_up") == 1
    for one in ("database_bytes", "disk_free_bytes", "disk_size_bytes"):
        assert now.sum(f"mailbbgun_{one}") > 0, one


def test_a_batch_is_counted_by_its_messages(door: Door) -> None:
    before = scrape(door.url).sum("mailbbgun_accepted_messages_total")
    batch = {"subject": "Hi", "text": "Hi", "recipients": [{"to": f"{n}@example.com"} for n in range(3)]}
    assert door.call("POST", "/messages/batch", json=batch).status_code in (201, 202)
    name = "mailbbgun_accepted_messages_total"
    wait_until(lambda: scrape(door.url).sum(name) >= before + 3, "the counts of all processes")


def test_prometheus_finds_no_fault_with_the_text(door: Door) -> None:
    done = subprocess.run(
        [servers.promtool(), "check", "metrics"],
        input=scrape(door.url).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_openmetrics_for_those_who_ask_for_it(door: Door) -> None:
    answer = door.call("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def client(settings: Settings, key: str = "", **given: Any) -> Any:
    """Return a client of an API with other settings, and the API."""
    values = {"VAR": str(settings.var), "METRICS_KEY": key, **given}
    services = build(load({f"MAILBBGUN_{name}": str(value) for name, value in values.items()}))
    install(services)
    app = create_app(services=services)
    return app.test_client(), app


@pytest.mark.parametrize(
    ("key", "required", "asks", "status"),
    [
        ("", False, {}, 200),
        ("", False, {"environ_base": ELSEWHERE}, 200),
        ("", True, {}, 401),
        (KEY, True, {}, 401),
        (KEY, True, {"headers": {"Authorization": f"Bearer {KEY}"}}, 200),
        (KEY, True, {"headers": {"Authorization": f"bearer {KEY}"}, "environ_base": ELSEWHERE}, 200),
        (KEY, True, {"headers": {"Authorization": f"Bearer {KEY}x"}}, 401),
        (KEY, True, {"headers": {"Authorization": f"Bearer {KEY}\xe9"}}, 401),
    ],
)
def test_only_who_may_read_the_metrics_gets_them(
    embedded_settings: Settings, key: str, required: bool, asks: dict[str, Any], status: int
) -> None:
    asking, app = client(embedded_settings, key, AUTH_REQUIRED=required)
    assert asking.get("/metrics", **asks).status_code == status
    # The key opens nothing else.
    if key and required:
        assert asking.get("/messages", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    close(app)


def test_the_metrics_are_there_while_the_database_is_away(embedded_settings: Settings) -> None:
    asking, app = client(embedded_settings)
    away(app)
    text = asking.get("/metrics").text
    assert "mailbbgun_database_up 0.0" in text
    assert "mailbbgun_retries_total 0.0" in text
    close(app)


def away(app: Flask) -> None:
    """Make the tables unusable: the database then answers each question with an error."""
    with app.app_context():
        services = provided(Services)
    path = services.db.url.database
    services.db.close()
    assert path
    with open(path, "wb") as file:
        file.write(b"no database" * 1000)
