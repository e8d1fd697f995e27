"""Row R35: the receiver of the manual gets each event once, by its id, whatever is killed meanwhile."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from mailbbgun.settings.settings import Settings
from tests.conftest import MOSTLY_REAL
from tests.flow.service import Service, until
from tests.waiting import PATIENCE
from tests.webhooks.conftest import SETTINGS
from tests.webhooks.manual import ManualsReceiver


@pytest.fixture
def manuals(tmp_path: Path) -> Iterator[ManualsReceiver]:
    made = ManualsReceiver(tmp_path)
    yield made
    made.kill()


def logged(service: Service) -> set[str]:
    return {str(row[0]).replace("-", "") for row in service.sql("SELECT id FROM events")}


@pytest.mark.long
@MOSTLY_REAL
def test_each_event_arrives_once_although_receiver_and_worker_are_killed(
    backend: Settings, manuals: ManualsReceiver, messages: int
) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)
    with Service(backend, **SETTINGS | {"LEASE_SECONDS": 4}) as service:
        service.start_worker()
        made = service.http.post(f"{service.url}/webhooks", json={"url": manuals.url}, timeout=PATIENCE)
        assert made.status_code == 201, made.text
        manuals.secret, path = made.json()["secret"], f"{service.url}/webhooks/{made.json()['id']}"
        manuals.start()
        messages //= 5  # two events each, sent twice
        turn = messages // 4
        for number in range(messages):
            service.post(to=f"n{number}@example.test", subject="n", text="x")
            if number % turn == turn // 2 and number > turn:
                seen = len(manuals.ids())
                until(lambda seen=seen: len(manuals.ids()) > seen, what="more events")  # it is at work
                manuals.kill()
                if number < 2 * turn:
                    service.kill("worker")
                    service.start_worker()
                manuals.start()
                # It may be paused by now; a person who has mended it says so, and it is tried at once.
                requests.patch(path, json={"description": "mended"}, timeout=PATIENCE).raise_for_status()
        until(lambda: service.count("PENDING") == 0, what="the end of all mail")
        until(lambda: {one.replace("-", "") for one in manuals.ids().values()} == logged(service), what="all events")
        ids = manuals.ids()
        assert len(ids) == len(set(ids.values())) >= 2 * messages
        assert service.sql("SELECT count(*) FROM webhook_attempts")[0][0] < 100
        # A window gives the same again.
        window = {"from": begun.isoformat(), "to": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
        assert requests.post(f"{path}/replays", json=window, timeout=PATIENCE).status_code == 202
        until(
            lambda: requests.get(f"{path}/replays", timeout=PATIENCE).json()["replays"][0]["finished_at"],
            what="the end of the replay",
        )
        assert manuals.ids() == ids
