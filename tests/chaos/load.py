"""Load for chaos tests: messages sent over several connections, each until it is answered 201, and how long each answer took."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from tests.flow.service import Service


class Load:
    """Sends messages under Idempotency-Keys. Only 201 and, with Retry-After, 503 are accepted as answers; the latter are asked again."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._local = threading.local()
        self.accepted: dict[str, str] = {}  # address → message id
        self.seconds: list[float] = []  # of each answer
        self.unavailable = 0

    def send(self, address: str) -> None:
        """Send one message, until it is answered 201."""
        end = time.monotonic() + 60
        while (answer := self._post(address)).status_code == 503:
            assert time.monotonic() < end, "the service stays unavailable"
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            self.unavailable += 1
            time.sleep(0.1)
        assert answer.status_code == 201, answer.text
        self.accepted[address] = answer.json()["id"]

    def send_all(self, addresses: Iterable[str], connections: int = 4) -> None:
        """Send to each of these."""
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(self.send, addresses))

    @contextmanager
    def in_the_background(self, connections: int = 4) -> Iterator[None]:
        """Send for as long as the block runs."""
        over = threading.Event()

        def work(connection: int) -> None:
            number = 0
            while not over.is_set():
                self.send(f"c{connection}n{number}@example.test")
                number += 1

        with ThreadPoolExecutor(connections) as pool:
            working = [pool.submit(work, connection) for connection in range(connections)]
            try:
                yield
            finally:
                over.set()
            for one in working:
                one.result()

    def _post(self, address: str) -> requests.Response:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        body = {"to": address, "subject": "load", "text": "x" * 1000}
        before = time.monotonic()
        answer: requests.Response = self._local.http.post(
            f"{self._service.url}/messages", json=body, headers={"Idempotency-Key": address}, timeout=60
        )
        self.seconds.append(time.monotonic() - before)
        return answer


def p99(seconds: Iterable[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * 0.99)]


def addresses(prefix: str, count: int) -> list[str]:
    """Return that many addresses."""
    return [f"{prefix}{number}@example.test" for number in range(count)]


def each_arrived_once(service: Service, accepted: Iterable[str]) -> None:
    """Compare what was accepted with what the sink took: nothing lost, nothing twice, nothing of unknown outcome."""
    copies, wanted = service.copies(), set(accepted)
    assert wanted - set(copies) == set(), "lost"
    assert {address: count for address, count in copies.items() if count > 1} == {}
    assert service.events("outcome_unknown") == 0
