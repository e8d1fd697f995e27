"""``kill -9`` of each process in the middle of a thousand messages: nothing lost, nothing twice that is not marked, statuses true."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.flow.service import Service, until

MESSAGES = 1000
CONNECTIONS = 8


class Client:
    """Sends messages, each under its own Idempotency-Key, until each is answered 201."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._local = threading.local()
        self.accepted: dict[str, str] = {}  # address → message id

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
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            assert answer.status_code == 201, answer.text
            self.accepted[address] = answer.json()["id"]


def check(service: Service, accepted: dict[str, str]) -> dict[str, int]:
    """Compare what was accepted, what the service says and what the sink got; return the figures."""
    copies = service.copies()
    lost = [address for address in accepted if not copies[address]]
    twice = [address for address, count in copies.items() if count > 1]
    unmarked = [address for address in twice if "outcome_unknown" not in service.kinds(accepted[address])]
    figures = {"accepted": len(accepted), "lost": len(lost), "twice": len(twice), "twice and not marked": len(unmarked)}
    print(figures)
    assert not lost
    assert not unmarked
    assert all(copies[address] <= 3 for address in twice)
    assert service.count("DELIVERED") == len(accepted)
    return figures


def test_killing_worker_and_api_loses_nothing(backend):
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1, API_PROCESSES=2) as service:
        service.start_worker()
        client, dice = Client(service), random.Random(20261120)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            sending = [pool.submit(client.send, number) for number in range(MESSAGES)]
            for victim in ("worker", "api", "worker", "api", "worker"):
                time.sleep(dice.uniform(0.3, 0.8))
                service.kill(victim)
                service.start_worker() if victim == "worker" else service.start_api()
            for one in sending:
                one.result()
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
        check(service, client.accepted)


def test_killing_and_wiping_the_broker_loses_nothing(real_settings, rabbitmq):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        client = Client(service)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            sending = [pool.submit(client.send, number) for number in range(MESSAGES)]
            time.sleep(0.7)
            rabbitmq.kill9()
            service.kill("worker")
            service.start_worker()
            rabbitmq.start()
            for one in sending:
                one.result()
        until(lambda: service.count("PENDING") == 0, 120, "the end of every delivery")
        check(service, client.accepted)
