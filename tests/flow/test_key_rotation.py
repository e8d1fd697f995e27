"""Encryption keys are rotated while mail is sent."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import UUID

import pytest
import requests

from mailbbgun.database.crypto import key_file, new_key
from mailbbgun.settings.load import load
from tests.chaos.check import check
from tests.chaos.load import Load
from tests.flow.service import Service, until
from tests.servers.mailserver import MailServer
from tests.waiting import PATIENCE


@pytest.fixture
def service(with_providers: Service) -> Service:
    return with_providers


class Asking:
    """Reads and changes passwords of accounts all the time, and counts the answers."""

    def __init__(self, service: Service, accounts: Sequence[UUID]) -> None:
        self._accounts = [f"{service.url}/smtp-accounts/{account}" for account in accounts]
        token = service.run("bin/mailbbgun", "key", "create", "--admin", "--quiet").strip()
        self._headers = {"Authorization": f"Bearer {token}"}
        self._over = threading.Event()
        self.answers: Counter[object] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(work) for work in (self._reveal, self._change)]
            try:
                yield
            finally:
                self._over.set()
            for one in asking:
                one.result()

    def _reveal(self) -> None:
        while not self._over.wait(0.05):
            with suppress(requests.ConnectionError):  # the API is being restarted
                url = f"{random.choice(self._accounts)}/credentials"
                answer = requests.get(url, headers=self._headers, timeout=PATIENCE)
                self.answers[answer.status_code, answer.json().get("smtp_password")] += 1

    def _change(self) -> None:
        body = {"smtp_password": "secret"}
        while not self._over.wait(0.1):
            with suppress(requests.ConnectionError):
                url = random.choice(self._accounts)
                answer = requests.patch(url, json=body, headers=self._headers, timeout=PATIENCE)
                self.answers["changed", answer.status_code] += 1


def restart(service: Service, keys: str) -> None:
    """Restart the processes with these encryption keys, one by one, as a rolling update does."""
    service.environment["MAILBBGUN_ENCRYPTION_KEYS"] = keys
    for name, start in (("worker", service.start_worker), ("api", service.start_api)):
        service.stop(name)
        start()


@pytest.mark.long
def test_no_password_is_unreadable_while_encryption_keys_change_under_load(
    service: Service, providers: list[MailServer]
) -> None:
    old, new = key_file(load(service.environment)).read_text().strip(), new_key()  # initdb.py made the old one
    asking = Asking(service, [service.add_account(server) for server in providers])
    load_ = Load(service)
    with asking.running(), load_.in_the_background(connections=2, pause=0.02):
        restart(service, f"{new},{old}")
        service.run("bin/mailbbgun", "encryption", "rotate")
        restart(service, new)  # nothing needs the old key now
        until(lambda: asking.answers[200, "secret"] > 10, what="credentials")
    until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
    assert set(asking.answers) == {(200, "secret"), ("changed", 200)}
    assert service.events("refused") == service.events("deferred") == 0
    figures = check(service, load_.accepted)
    assert (figures.lost, figures.duplicated) == (0, 0)
