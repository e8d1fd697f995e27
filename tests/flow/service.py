"""The whole service as processes, for tests that walk from the door to the sink."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import requests
from sqlalchemy import CursorResult, text

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.install import install
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.models import SMTPAccount
from tests.servers.mailserver import MailServer
from tests.servers.process import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]


T = TypeVar("T")


def until(wanted: Callable[[], T], seconds: float = PATIENCE, what: str = "it") -> T:
    """Return what ``wanted`` gives as soon as that is true.

    Nothing depends on how fast the machine is: fewer ``seconds`` than :data:`tests.waiting.PATIENCE` are as many.
    """
    return wait_until(wanted, what, look=0.05, patience=seconds)


class Service:
    """API, worker and sink on free ports. Everything it started is gone when the ``with`` ends."""

    def __init__(self, settings: Settings, **overrides: object) -> None:
        self.port, self.sink_port = free_port(), free_port()
        self.var = settings.var
        self.var.mkdir(parents=True, exist_ok=True)
        self.log = self.var / "sink.log"
        given = {
            one.name: getattr(settings, one.name)
            for one in fields(Settings)
            if getattr(settings, one.name) != one.default
        }
        given |= {
            "PORT": self.port,
            "SMTP_URL": f"smtp://127.0.0.1:{self.sink_port}?security=none",
            "RETRY_DELAYS": "2,2,2",
        }
        given |= {"API_PROCESSES": 1, "WORKER_PROCESSES": 1} | overrides
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
        self.environment |= {f"MAILBBGUN_{name}": _written(value) for name, value in given.items()}
        self.only: dict[str, dict[str, str]] = {"api": {}, "worker": {}}  # settings of one side alone, by name
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.servers: dict[
            MailServer, int
        ] = {}  # that mail leaves through besides the sink, and how many each had taken before
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = requests.Session()
        self._renewed = 0  # bytes of the sink's log that were there by then

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._end()
            raise
        return self

    def install(self) -> None:
        """Do what initdb.py does, without a process of its own."""
        services = build(load(self.environment))
        install(services)
        services.close()

    def _open(self) -> None:
        self.install()
        self._spawn_sink()
        self.spawn_api()
        until(lambda: _listens(self.sink_port), what="the sink")
        until(self.answers, what="the API")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.http.close()
        for process in self.processes.values():
            with suppress(ProcessLookupError):  # all of the group has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # pytest shows this for a test that failed, and for no other.
        for path in sorted(self.var.glob("*.out")):
            print(f"--- {path.name}\n{path.read_text()[-20_000:]}", file=sys.stderr)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command of the project to its end; return what it printed."""
        argv = [sys.executable, *arguments] if arguments[0].endswith(".py") else list(arguments)
        done = subprocess.run(argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start_sink(self) -> None:
        """Start the sink, or start it again on the same log."""
        self._spawn_sink()
        until(lambda: _listens(self.sink_port), what="the sink")

    def start_api(self, fault: str | None = None) -> None:
        """Start the API and wait until it answers; with a ``fault`` (see ``mailbbgun/core/faults.py``) in its way."""
        self.spawn_api(fault)
        until(self.answers, what="the API")

    def start_worker(self, name: str = "worker", fault: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; it may not be ready yet. With a ``fault`` in its way."""
        return self._spawn(name, "worker.py", settings=self.only["worker"] | _armed(fault))

    def struck(self, name: str, point: str) -> int:
        """Return how often processes of that name came to the fault point they were armed with."""
        return (self.var / f"{name}.out").read_text().splitlines().count(f"fault {point}")

    def kill(self, name: str) -> None:
        """Kill a process with -9 (the API: its whole group)."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, timeout: float = PATIENCE) -> int:
        """Tell a process to end and return its exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout)

    def post(self, **message: Any) -> dict[str, Any]:
        """Send a message in at the front door; ``to`` is needed, the rest has values."""
        answer = self.http.post(
            f"{self.url}/messages", json={"subject": "hello", "text": "hello"} | message, timeout=PATIENCE
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, path: str) -> dict[str, Any]:
        """Read a resource."""
        answer = self.http.get(f"{self.url}{path}", timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def message(self, identifier: str) -> dict[str, Any]:
        """Read one message."""
        return self.get(f"/messages/{identifier}")

    def kinds(self, identifier: str) -> list[str]:
        """Return the kinds of a message's events, oldest first."""
        events = self.get(f"/messages/{identifier}/events?limit=1000")["events"]
        return [event["kind"] for event in sorted(events, key=lambda event: event["id"])]

    def ended(self, identifier: str, status: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until a message has that status and return it."""
        return until(
            lambda: (found := self.message(identifier))["status"] == status and found,
            seconds,
            f"{status} of {identifier}",
        )

    def count(self, status: str) -> int:
        """Return how many messages have that status."""
        return int(self.get(f"/messages?limit=0&status={status}")["count"])

    def unhinted(self) -> int:
        """Return how many pending deliveries were never hinted, or not marked so yet."""
        return int(self.sql("SELECT count(*) FROM deliveries WHERE status = 'PENDING' AND published_at IS NULL")[0][0])

    def sql(self, statement: str, **parameters: object) -> list[Any]:
        """Run one SQL statement on the service's database; return its rows, if it has any."""
        services = build(load(self.environment))
        with services.db.write() as session:
            done = session.execute(text(statement), parameters)
            rows = list(done.all()) if isinstance(done, CursorResult) and done.returns_rows else []
        services.close()
        return rows

    def age(self, seconds: int, *columns: str) -> None:
        """Move times of what is pending so many seconds back; by default when it was accepted and hinted."""
        if self.environment.get("MAILBBGUN_DATABASE_URL", "").startswith("postgresql"):
            older = "{0} = {0} - :seconds * interval '1 second'"
        else:
            older = "{0} = strftime('%Y-%m-%d %H:%M:%f', {0}, '-' || :seconds || ' seconds') || '000'"
        changes = ", ".join(older.format(name) for name in columns or ("next_attempt_at", "published_at"))
        self.sql(f"UPDATE deliveries SET {changes} WHERE status = 'PENDING'", seconds=seconds)

    def attempts(self, identifier: str) -> list[int]:
        """Return how many attempts each delivery of a message had, in the order of its recipients."""
        return [one["attempts"] for one in self.message(identifier)["deliveries"]]

    def events(self, kind: str) -> int:
        """Return how many events of a kind there are in all."""
        return int(self.sql("SELECT count(*) FROM events WHERE kind = :kind", kind=kind)[0][0])

    def taken(self) -> list[dict[str, Any]]:
        """Return what the sink took, oldest first, and then what each of ``servers`` did."""
        # A line that is being written is not there yet.
        took = (
            [json.loads(line) for line in self.log.read_bytes()[self._renewed :].split(b"\n")[:-1]]
            if self.log.exists()
            else []
        )
        return took + [message for server, before in self.servers.items() for message in server.taken()[before:]]

    def renew(self) -> None:
        """Be as new for the next test: nothing is pending, and only what the sink takes from now on counts as taken."""

        def ended() -> bool:
            for one in self.get("/messages?status=PENDING&limit=100")["messages"]:
                self.http.delete(f"{self.url}/messages/{one['id']}", timeout=PATIENCE)  # or it is just being sent
            return self.count("PENDING") == 0

        until(ended, what="the end of what the test before left")
        self._renewed = self.log.stat().st_size if self.log.exists() else 0

    def use(self, *servers: MailServer) -> None:
        """Let what these take from now on count as taken. Whoever started them closes them."""
        self.servers |= {server: len(server.taken()) for server in servers}

    def add_account(self, server: MailServer, tenant: UUID = DEFAULT_TENANT, **columns: Any) -> UUID:
        """Add an SMTP account of a tenant's, at a server of ours that knows ``user``; what else it has may be given. Returns its id."""
        services = build(load(self.environment))
        given = {
            "id": new_id(), "tenant_id": tenant, "setting_name": f"account {new_id()}", "smtp_host": "127.0.0.1", "smtp_port": server.port,
            "smtp_username": "user", "smtp_password": services.vault.encrypt("secret"), "security_protocol": "STARTTLS",
            "ca_certificate": Path(server.ca_file).read_text(), "is_default": False, "priority": 10, "weight": 1, "max_connections": 20,
            "recipient_domains": [], "enabled": True, "created_at": datetime.now(UTC), "updated_at": datetime.now(UTC),
        } | columns  # fmt: skip
        with services.db.write() as session:
            session.add(SMTPAccount(**given))
        services.close()
        return given["id"]

    def copies(self) -> Counter[str]:
        """Return how many copies each address got."""
        return Counter(address for message in self.taken() for address in message["to"])

    def _spawn_sink(self) -> None:
        self._spawn("sink", "-m", "tests.flow.sink", str(self.sink_port), str(self.log))

    def spawn_api(self, fault: str | None = None) -> None:
        """Start the API; it may not answer yet."""
        self._spawn("api", "-m", "gunicorn", "api:app", settings=self.only["api"] | _armed(fault))

    def _spawn(self, name: str, *arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        environment = self.environment | {f"MAILBBGUN_{key}": value for key, value in (settings or {}).items()}
        with (self.var / f"{name}.out").open("ab") as out:
            argv = [sys.executable, *arguments]
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def answers(self) -> bool:
        """Say whether the API answers. It must not have ended."""
        assert self.processes["api"].poll() is None, (self.var / "api.out").read_text()
        try:
            return self.http.get(f"{self.url}/health", timeout=2).status_code == 200
        except (requests.ConnectionError, requests.Timeout):  # a process that only starts takes a while
            return False


def _armed(fault: str | None) -> dict[str, str]:
    return {"FAULT": fault, "FAULTS_ALLOWED": "1"} if fault else {}


def _written(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
