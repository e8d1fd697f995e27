"""Workers follow settings while they deliver."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.metrics.scraped import scrape
from tests.waiting import PATIENCE

#: More than any number of connections here.
MAILS = 12


class Silent:
    """A mail server that takes connections and never says a word."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._taken):
            one.close()

    def _take(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                self._taken.append(self._listening.accept()[0])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """API and worker, with a server that keeps each connection busy until it is given up."""
    var = tmp_path_factory.mktemp("worker") / "var"
    settings = load({"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    silent = Silent()
    url = f"smtp://127.0.0.1:{silent.port}?security=none"
    with Service(settings, SMTP_URL=url, WORKER_CONNECTIONS=2, RETRY_DELAYS="3600", CIRCUIT_FAILURES=1000) as one:
        one.start_worker()
        yield one
    silent.close()


def put(service: Service, **changes: Any) -> None:
    answer = service.http.put(f"{service.url}/config", json=changes, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def under_way(service: Service) -> int:
    return int(scrape(service.url).sum("mailbbgun_send_queue_transactions", state="under_way"))


def test_a_worker_makes_more_connections_and_fewer_and_gives_up_earlier_as_it_is_told(service: Service) -> None:
    for n in range(MAILS):
        service.post(to=f"p{n}@example.com")
    until(lambda: under_way(service) == 2, what="the connections of the file")
    put(service, WORKER_CONNECTIONS=5)
    until(lambda: under_way(service) == 5, what="more connections")
    # Those that are open keep their timeouts, and the server is silent. So only new ones are given up soon.
    put(service, SMTP_TIMEOUTS={"banner": 0.3}, WORKER_CONNECTIONS=8)

    def tried() -> int:
        found = service.get("/messages?limit=100")["messages"]
        return sum(service.get(f"/messages/{one['id']}")["deliveries"][0]["attempts"] > 0 for one in found)

    until(lambda: tried() >= MAILS - 5, what="the other mails are tried and put off")
    put(service, WORKER_CONNECTIONS=None, SMTP_TIMEOUTS=None)
    assert service.get("/config")["settings"]["WORKER_CONNECTIONS"]["value"] == 2


def test_figures_say_what_was_accepted_and_asked(service: Service) -> None:
    before = service.get("/stats")
    service.post(to="one-more@example.com")
    assert service.http.get(f"{service.url}/nothing-here", timeout=PATIENCE).status_code == 404

    def now() -> bool:
        its = service.get("/stats")
        requests, earlier = its["requests"], before["requests"]
        assert requests["total"] == requests["successful"] + requests["failed"]
        return (
            its["accepted"] == before["accepted"] + 1
            and its["in_queue"] == before["in_queue"] + 1
            and requests["failed"] == earlier["failed"] + 1
            and requests["successful"] > earlier["successful"]
        )

    until(now, what="the figures")
    its = service.get("/stats")
    assert (its["sent"], its["received"]) == (0, 0)
    assert its["uptime_seconds"] >= before["uptime_seconds"]
    assert its["started_at"] == before["started_at"] < its["requests"]["last_at"]
