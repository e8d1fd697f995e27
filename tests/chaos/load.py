"""Sends load for chaos tests: over several connections, each message until it is answered 201."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from tests.flow.service import Service
from tests.waiting import PATIENCE


class Load:
    """Sends messages with Idempotency-Keys.

    It accepts only two answers: 201, and 503 with Retry-After. After a 503 or a broken connection
    it asks again and counts it.
    """

    def __init__(self, service: Service, size: int = 1000) -> None:
        self._service = service
        self._text = "x" * size
        self._local = threading.local()
        self._over = threading.Event()
        self.accepted: dict[str, str] = {}  # address → message id
        self.seconds: list[float] = []  # of each answer
        self.unavailable = 0  # answers of 503
        self.failures = 0  # broken connections

    def send(self, *to: str, **more: object) -> str:
        """Send one message until it is answered 201; return its id.

        ``more`` are other fields: ``text``, ``priority`` and so on.
        """
        end = time.monotonic() + PATIENCE
        while (answer := self._post(to, more)) is None or answer.status_code == 503:
            if answer is None:
                self.failures += 1
            else:
                assert 0 < int(answer.headers["Retry-After"]) <= 60
                self.unavailable += 1
            assert not self._over.is_set(), "given up"
            assert time.monotonic() < end, (
                f"{to} was not accepted within {PATIENCE} s: {self.unavailable}× 503, {self.failures}× no answer"
            )
            time.sleep(0.05 if answer is None else 0.1)
        assert answer.status_code == 201, answer.text
        identifier = str(answer.json()["id"])
        self.accepted.update(dict.fromkeys(to, identifier))
        return identifier

    def send_all(self, addresses: Iterable[str], connections: int = 4) -> None:
        """Send one message to each address."""
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(self.send, addresses))

    @contextmanager
    def sending(self, messages: Sequence[Sequence[str]], connections: int = 4, seconds: float = 0.0) -> Iterator[None]:
        """Send messages while the block runs; all are accepted at its end.

        Each message goes to one or several addresses. Sending is spread over ``seconds``.
        """
        began = time.monotonic()

        def work(number: int) -> None:
            self._over.wait(max(0.0, began + seconds * number / len(messages) - time.monotonic()))
            if not self._over.is_set():
                self.send(*messages[number])

        with ThreadPoolExecutor(connections) as pool:
            working = [pool.submit(work, number) for number in range(len(messages))]
            try:
                yield
            except BaseException:
                self._over.set()
                raise
            for one in working:
                one.result()

    @contextmanager
    def in_the_background(self, connections: int = 4, pause: float = 0.0) -> Iterator[None]:
        """Send as long as the block runs.

        Each connection pauses ``pause`` seconds between messages.
        """
        over = threading.Event()

        def work(connection: int) -> None:
            number = 0
            while not over.is_set():
                self.send(f"c{connection}n{number}@example.test")
                number += 1
                over.wait(pause)

        with ThreadPoolExecutor(connections) as pool:
            working = [pool.submit(work, connection) for connection in range(connections)]
            try:
                yield
            finally:
                over.set()
            for one in working:
                one.result()

    def _post(self, to: Sequence[str], more: Mapping[str, object]) -> requests.Response | None:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        body = {"to": list(to), "subject": "load", "text": self._text} | dict(more)
        before = time.monotonic()
        try:
            answer: requests.Response = self._local.http.post(
                f"{self._service.url}/messages", json=body, headers={"Idempotency-Key": to[0]}, timeout=PATIENCE
            )
        except requests.RequestException:
            return None
        self.seconds.append(time.monotonic() - before)
        return answer


def p99(seconds: Iterable[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * 0.99)]


def addresses(prefix: str, count: int) -> list[str]:
    """Return ``count`` addresses."""
    return [f"{prefix}{number}@example.test" for number in range(count)]
