"""The counts of several processes: none is lost, whichever process is asked, and whichever is killed."""

from collections.abc import Callable

import pytest

from mailbbgun.settings.settings import Settings
from tests.flow.service import Service, until
from tests.metrics.scraped import Scraped, scrape
from tests.servers.process import free_port

KEY = "a-key-of-twenty-characters"


@pytest.mark.long
@pytest.mark.parametrize("backend", ["real"], indirect=True)
def test_counts_of_all_processes_are_there_and_survive_their_deaths(backend: Settings) -> None:
    port = free_port()
    monitored = {"METRICS_PORT": port, "METRICS_KEY": KEY}
    with Service(backend, API_PROCESSES=2, WORKER_PROCESSES=2, **monitored) as service:
        service.start_worker()
        api, worker = service.url, f"http://127.0.0.1:{port}"
        never = service.post(to="never-1@example.com")
        later = service.post(to="later-1-2@example.com")
        sent = [service.post(to=f"{n}@example.com")["id"] for n in range(8)]
        for one in (later["id"], *sent):
            service.ended(one, "DELIVERED")
        service.ended(never["id"], "ERROR")
        counted(api, lambda found: found.sum("mailbbgun_accepted_messages_total") == 10, KEY)
        now = counted(worker, lambda found: found.sum("mailbbgun_results_total") == 11, KEY)
        outcomes = {"delivered": 9, "deferred": 1, "bounced": 1}
        for outcome, n in outcomes.items():
            assert now.sum("mailbbgun_attempts_total", outcome=outcome, account="smarthost") == n, outcome
        assert now.sum("mailbbgun_results_total", status="DELIVERED", kind="delivered") == 9
        assert now.sum("mailbbgun_results_total", status="ERROR", kind="bounced") == 1
        assert now.sum("mailbbgun_retries_total") == 1
        assert now.sum("mailbbgun_smtp_phase_seconds_count", phase="dot") == 9
        assert now.sum("mailbbgun_smtp_phase_seconds_sum") > 0
        assert now.sum("mailbbgun_smtp_connections_opened_total", result="ok") >= 1
        assert {one["state"] for one in now.labels("mailbbgun_send_queue_transactions")} == {"waiting", "under_way"}
        assert now.labels("mailbbgun_due_deliveries") == []  # that is for the API to say

        alive = counted(api, lambda found: found.sum("mailbbgun_workers", state="alive") == 2, KEY)
        assert alive.sum("mailbbgun_database_up") == alive.sum("mailbbgun_queue_up") == 1
        assert alive.labels("mailbbgun_attempts_total") == []  # METRICS_PORT has these
        assert alive.sum("mailbbgun_worker_heartbeat_age_seconds") < 60

        refused = service.http.get(f"{worker}/metrics", timeout=60)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert service.http.get(f"{worker}/", timeout=60).status_code == 404

        service.kill("worker")
        service.kill("api")
        service.start_api()
        service.start_worker()
        service.ended(service.post(to="after@example.com")["id"], "DELIVERED")
        counted(api, lambda found: found.sum("mailbbgun_accepted_messages_total") == 11, KEY)
        counted(worker, lambda found: found.sum("mailbbgun_attempts_total", outcome="delivered") == 10, KEY)


def counted(url: str, wanted: Callable[[Scraped], bool], key: str) -> Scraped:
    """Scrape until this is so: counts are written each second."""
    return until(lambda: found if wanted(found := scrape(url, key)) else None, what="the counts")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"METRICS_KEY": "short"}, "METRICS_KEY: has 5 characters; it needs at least 20"),
        ({"METRICS_KEY": "with a space in its middle"}, "METRICS_KEY: has a space"),
        ({"METRICS_PORT": 9465, "METRICS_HOST": "0.0.0.0"}, "METRICS_KEY: anybody who reaches 0.0.0.0"),
        ({"METRICS_HOST": "no host"}, "METRICS_HOST: 'no host' is no IP address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must begin with http: or"),
    ],
)
def test_a_worker_says_what_is_wrong_with_a_setting_of_monitoring(
    embedded_settings: Settings, given: dict[str, object], why: str
) -> None:
    service = Service(embedded_settings, **given)
    assert f"worker: {why}" in service.run("worker.py", code=78)
