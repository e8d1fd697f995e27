"""``kill -9`` of each process in the middle of a thousand messages: nothing lost, nothing twice that is not marked, statuses true."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from mailbbgun.base.settings import load
from tests.flow.service import Service, until


class Client:
    """Sends messages, each under its own Idempotency-Key, until each is answered 201. Counts what was answered otherwise."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._local = threading.local()
        self.accepted: dict[str, str] = {}  # address → message id
        self.failures = 0  # connections that broke: with the API killed there are some

    def send(self, number: int) -> None:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        address = f"u{number}@example.test"
        body = {"to": address, "subject": "chaos", "text": "x" * 2000}
        while address not in self.accepted:
            try:
                answer = self._local.http.post(
                    f"{self._service.url}/messages", json=body, headers={"Idempotency-Key": f"k{number}"}, timeout=10
                )
            except requests.RequestException:
                self.failures += 1
                time.sleep(0.05)
                continue
            assert answer.status_code == 201, answer.text
            self.accepted[address] = answer.json()["id"]


def check(service: Service, accepted: dict[str, str]) -> dict[str, int]:
    """Compare what was accepted, what the service says and what the sink got; return the figures."""
    copies = service.copies()
    lost = [address for address in accepted if not copies[address]]
    twice = [address for address, count in copies.items() if count > 1]
    marked = service.marked()
    unmarked = [address for address in twice if accepted[address] not in marked]
    figures = {"accepted": len(accepted), "lost": len(lost), "marked unknown": len(marked), "twice": len(twice), "twice, not marked": len(unmarked)}
    print(figures)
    assert not lost
    assert not unmarked
    assert all(copies[address] <= 3 for address in twice)
    assert service.count("DELIVERED") == len(accepted)
    return figures


def send_all(service: Service, client: Client, messages: int, connections: int, meanwhile: Callable[[], None]) -> None:
    """Send over so many connections, and do something meanwhile."""
    with ThreadPoolExecutor(connections) as pool:
        sending = [pool.submit(client.send, number) for number in range(messages)]
        meanwhile()
        for one in sending:
            one.result()
    until(lambda: service.count("PENDING") == 0, 60 + messages / 50, "the end of every delivery")


def test_killing_worker_and_api_loses_nothing(backend, messages):
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1, API_PROCESSES=2) as service:
        service.start_worker()
        client, dice = Client(service), random.Random(20261120)

        def kill() -> None:
            for victim in ("worker", "api", "worker", "api", "worker"):
                time.sleep(dice.uniform(0.3, 0.8))
                service.kill(victim)
                service.start_worker() if victim == "worker" else service.start_api()

        send_all(service, client, messages, 8, kill)
        check(service, client.accepted)


def test_killing_the_worker_thrice_and_restarting_the_broker_loses_nothing_and_the_api_never_fails(real_settings, rabbitmq, messages):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        client = Client(service)
        pause = messages / 1500

        def disturb() -> None:
            for _ in range(3):
                time.sleep(pause)
                service.kill("worker")
                service.start_worker()
            time.sleep(pause)
            rabbitmq.restart()

        send_all(service, client, messages, 16, disturb)
        figures = check(service, client.accepted)
        assert client.failures == 0
        assert figures["marked unknown"] <= 3 * load(service.environment).WORKER_CONNECTIONS


def test_killing_the_broker_and_a_worker_at_once_loses_nothing(real_settings, rabbitmq, messages):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        client = Client(service)

        def kill() -> None:
            time.sleep(0.7)
            rabbitmq.kill9()
            service.kill("worker")
            service.start_worker()
            rabbitmq.start()

        send_all(service, client, messages, 8, kill)
        check(service, client.accepted)
