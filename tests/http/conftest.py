"""A real API process for the tests of the front door, once on SQLite and once on PostgreSQL. No worker: what is accepted stays PENDING."""

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
from tests.servers.process import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
MAX_BODY_SIZE = 4_000_000


class Door:
    """The API, by its address, and the services it stands on, to look behind it."""

    def __init__(
        self, var: Path, environment: dict[str, str], command: Sequence[str] = (str(ROOT / "api.py"),)
    ) -> None:
        self.var = var
        self.url = f"http://127.0.0.1:{environment['MAILBBGUN_PORT']}"
        self.http = requests.Session()
        self.services = services.build(load(environment))
        schema.upgrade(self.services.db)
        self.log = (var / "api.out").open("w")
        # Started from another folder: nothing may depend on where it runs.
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
        """Send a message that must be taken; return its id."""
        answer = self.post({"to": "ann@example.com", "subject": "Hello", "text": "Hi"} | message)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def files(self) -> int:
        """Return how many files all its processes have open."""
        pids = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(self.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    def close(self) -> None:
        """Kill it. It must have lived until now, unless the test has seen its end; how it stops is a matter of test_service.py, and takes seconds."""
        self.http.close()
        assert self.process.returncode is not None or self.process.poll() is None, (self.var / "api.out").read_text()
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # all of the group has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.services.close()
        self.log.close()

    def _wait(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, (self.var / "api.out").read_text()
            try:
                return self.http.get(f"{self.url}/health", timeout=2).ok
            except (
                requests.ConnectionError,
                requests.Timeout,
            ):  # processes that are only starting take a while to answer
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
    }
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    opened = Door(var, environment)
    yield opened
    opened.close()


@pytest.fixture
def tag() -> str:
    """A tag of this test alone, to find its messages by."""
    return uuid4().hex
