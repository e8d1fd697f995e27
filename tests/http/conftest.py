"""A real API process for tests of the front door, once on SQLite and once on PostgreSQL.

There is no worker, so accepted messages stay PENDING.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from mailbbgun import schema, services
from mailbbgun.settings.load import load
from tests import tables
from tests.servers.process import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
MAX_BODY_SIZE = 4_000_000


class Door:
    """A running API, and its services, with which a test can look into the database."""

    def __init__(
        self, var: Path, environment: dict[str, str], command: Sequence[str] = (str(ROOT / "api.py"),)
    ) -> None:
        self.var = var
        self.url = f"http://127.0.0.1:{environment['MAILBBGUN_PORT']}"
        self.http = requests.Session()
        self.services = services.build(load(environment))
        tables.put_into(self.services.db)
        schema.upgrade(self.services.db)
        self.log = (var / "api.out").open("w")
        # Started from another folder, because nothing may depend on the working folder.
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=var,
            env=_clean() | environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self._kill()
            raise

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.url + path, timeout=PATIENCE, **options)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, body: Any, **headers: str) -> requests.Response:
        return self.call("POST", "/messages", json=body, headers=headers)

    def send(self, **message: Any) -> str:
        """Send a message that must be accepted. Return its id."""
        answer = self.post({"to": "ann@example.com", "subject": "Hello", "text": "Hi"} | message)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def files(self) -> int:
        """Return how many files all processes of the API have open."""
        pids = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(self.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    def close(self) -> None:
        """Kill the API. It must be running, unless the test has seen its end.

        A graceful stop would take seconds; test_service.py tests that.
        """
        self.http.close()
        assert self.process.returncode is not None or self.process.poll() is None, (self.var / "api.out").read_text()
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # all processes of the group have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.services.close()
        self.log.close()

    def _wait(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, (self.var / "api.out").read_text()
            try:
                return self.http.get(f"{self.url}/health", timeout=2).ok
            except (requests.ConnectionError, requests.Timeout):  # it is still starting
                return False

        wait_until(answers, "an answer of the API")


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The API on each database, with the embedded queue."""
    var = tmp_path_factory.mktemp("door")
    environment = {
        "MAILBBGUN_VAR": str(var),
        "MAILBBGUN_PORT": str(free_port()),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_MAX_BODY_SIZE": str(MAX_BODY_SIZE),
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "true",
        "MAILBBGUN_LICENCE_REQUESTS_PER_MINUTE": "0",
    }
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    opened = Door(var, environment)
    yield opened
    opened.close()


@pytest.fixture
def tag() -> str:
    """A tag of this test alone, by which it finds its messages."""
    return uuid4().hex
