"""The whole service as processes, for tests from the HTTP door to the sink."""

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
from tests import tables
from tests.servers.mailserver import MailServer
from tests.servers.process import free_port, kill_sessions
from tests.waiting import PATIENCE, wait_until

#: A password for settings of tests, which no program may print.
CANARY = "hunter2"

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def until(wanted: Callable[[], T], seconds: float = PATIENCE, what: str = "it") -> T:
    """Call ``wanted`` until its result is true, and return the result.

    ``seconds`` below :data:`tests.waiting.PATIENCE` count as that many, so that no test depends on
    the speed of the machine.
    """
    return wait_until(wanted, what, look=0.05, patience=seconds)


class Service:
    """API, worker and sink on free ports. The end of the ``with`` block kills all of them."""

    def __init__(self, settings: Settings, **overrides: object) -> None:
        self.port, self.sink_port, self.smtp_port = free_port(), free_port(), free_port()
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
            "SMTPD_PORT": self.smtp_port,
            "SMTP_URL": f"smtp://127.0.0.1:{self.sink_port}?security=none",
            "RETRY_DELAYS": "2,2,2",
        }
        given |= {"API_PROCESSES": 1, "WORKER_PROCESSES": 1, "SMTPD_PROCESSES": 1} | overrides
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
        self.environment |= {f"MAILBBGUN_{name}": _written(value) for name, value in given.items()}
        # Program → settings that only it gets.
        self.only: dict[str, dict[str, str]] = {"api": {}, "worker": {}, "smtpd": {}}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sessions: set[int] = set()  # of all processes that were started
        # Other servers that mail leaves through → how many messages each had taken before.
        self.servers: dict[MailServer, int] = {}
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = requests.Session()
        self._renewed = 0  # length of the sink's log, in bytes, at the last renew()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._end()
            raise
        return self

    def install(self, copied: bool = False) -> None:
        """Do what initdb.py does, in this process; ``copied``: with a copy of the tables, if on SQLite."""
        services = build(load(self.environment))
        if copied:
            tables.put_into(services.db)
        install(services)
        services.close()

    def _open(self) -> None:
        self.install(copied=True)
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
            with suppress(ProcessLookupError):  # the whole group has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        until(lambda: not kill_sessions(self._sessions), what="the end of what they had started")
        # pytest shows this output only for failed tests.
        for path in sorted(self.var.glob("*.out")):
            print(f"--- {path.name}\n{path.read_text()[-20_000:]}", file=sys.stderr)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command of the project to its end; return what it printed."""
        argv = [sys.executable, *arguments] if arguments[0].endswith(".py") else list(arguments)
        done = subprocess.run(argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start_sink(self) -> None:
        """Start the sink, or start it again with the same log."""
        self._spawn_sink()
        until(lambda: _listens(self.sink_port), what="the sink")

    def start_api(self, fault: str | None = None) -> None:
        """Start the API and wait until it answers.

        ``fault`` arms a fault point, see ``mailbbgun/core/faults.py``.
        """
        self.spawn_api(fault)
        until(self.answers, what="the API")

    def start_worker(self, name: str = "worker", fault: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker, armed with a ``fault`` if given. It may not be ready on return."""
        return self._spawn(name, "worker.py", settings=self.only["worker"] | _armed(fault))

    def start_smtpd(self, fault: str | None = None) -> None:
        """Start the SMTP door and wait until it listens. ``fault`` arms a fault point."""
        process = self._spawn("smtpd", "smtpd.py", settings=self.only["smtpd"] | _armed(fault))
        until(lambda: process.poll() is not None or _listens(self.smtp_port), what="the SMTP door")
        assert process.poll() is None, (self.var / "smtpd.out").read_text()

    def struck(self, name: str, point: str) -> int:
        """Return how often processes of this name reached the fault point they were armed with."""
        return (self.var / f"{name}.out").read_text().splitlines().count(f"fault {point}")

    def kill(self, name: str) -> None:
        """Kill a process and its group with SIGKILL."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, timeout: float = PATIENCE) -> int:
        """Send SIGTERM to a process and return its exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout)

    def post(self, **message: Any) -> dict[str, Any]:
        """Send a message through HTTP. ``to`` is required; other fields have defaults."""
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
        """Wait until a message has this status, and return it."""
        return until(
            lambda: (found := self.message(identifier))["status"] == status and found,
            seconds,
            f"{status} of {identifier}",
        )

    def count(self, status: str) -> int:
        """Return how many messages have this status."""
        return int(self.get(f"/messages?limit=0&status={status}")["count"])

    def unhinted(self) -> int:
        """Return how many pending deliveries are not marked as hinted."""
        return int(self.sql("SELECT count(*) FROM deliveries WHERE status = 'PENDING' AND published_at IS NULL")[0][0])

    def sql(self, statement: str, **parameters: object) -> list[Any]:
        """Run an SQL statement on the service's database; return its rows, if any."""
        services = build(load(self.environment))
        with services.db.write() as session:
            done = session.execute(text(statement), parameters)
            rows = list(done.all()) if isinstance(done, CursorResult) and done.returns_rows else []
        services.close()
        return rows

    def age(self, seconds: int, *columns: str) -> None:
        """Move times of pending deliveries back by so many seconds.

        By default ``next_attempt_at`` and ``published_at``.
        """
        if self.environment.get("MAILBBGUN_DATABASE_URL", "").startswith("postgresql"):
            older = "{0} = {0} - :seconds * interval '1 second'"
        else:
            older = "{0} = strftime('%Y-%m-%d %H:%M:%f', {0}, '-' || :seconds || ' seconds') || '000'"
        changes = ", ".join(older.format(name) for name in columns or ("next_attempt_at", "published_at"))
        # In pieces, since the database gives up a statement that changes very many rows.
        ids = [row[0] for row in self.sql("SELECT id FROM deliveries WHERE status = 'PENDING' ORDER BY id")]
        for first, last in [(ids[at], ids[at : at + 5000][-1]) for at in range(0, len(ids), 5000)]:
            those = "status = 'PENDING' AND id BETWEEN :first AND :last"
            self.sql(f"UPDATE deliveries SET {changes} WHERE {those}", seconds=seconds, first=first, last=last)

    def attempts(self, identifier: str) -> list[int]:
        """Return the number of attempts of each delivery, in the order of the recipients."""
        return [one["attempts"] for one in self.message(identifier)["deliveries"]]

    def events(self, kind: str) -> int:
        """Return how many events of a kind there are."""
        return int(self.sql("SELECT count(*) FROM events WHERE kind = :kind", kind=kind)[0][0])

    def taken(self) -> list[dict[str, Any]]:
        """Return the messages that the sink took, oldest first, then those of ``servers``."""
        # The last piece is empty, or a line that is still being written.
        took = (
            [json.loads(line) for line in self.log.read_bytes()[self._renewed :].split(b"\n")[:-1]]
            if self.log.exists()
            else []
        )
        return took + [message for server, before in self.servers.items() for message in server.taken()[before:]]

    def renew(self) -> None:
        """Prepare for the next test: end all pending mail, and forget what the sink has taken."""

        def ended() -> bool:
            for one in self.get("/messages?status=PENDING&limit=100")["messages"]:
                self.http.delete(f"{self.url}/messages/{one['id']}", timeout=PATIENCE)  # fails while it is being sent
            return self.count("PENDING") == 0

        until(ended, what="the end of the earlier tests' mail")
        self._renewed = self.log.stat().st_size if self.log.exists() else 0

    def use(self, *servers: MailServer) -> None:
        """Count what these servers take from now on as taken. The caller closes them."""
        self.servers |= {server: len(server.taken()) for server in servers}

    def add_account(self, server: MailServer, tenant: UUID = DEFAULT_TENANT, **columns: Any) -> UUID:
        """Add an SMTP account at one of our servers, which knows ``user``; return its id.

        ``columns`` replace the default values.
        """
        services = build(load(self.environment))
        given = {
            "id": new_id(), "tenant_id": tenant, "setting_name": f"account {new_id()}",
            "smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_username": "user",
            "smtp_password": services.vault.encrypt("secret"), "security_protocol": "STARTTLS",
            "ca_certificate": Path(server.ca_file).read_text(), "is_default": False, "priority": 10, "weight": 1,
            "max_connections": 20, "recipient_domains": [], "enabled": True,
            "created_at": datetime.now(UTC), "updated_at": datetime.now(UTC),
        } | columns  # fmt: skip
        with services.db.write() as session:
            session.add(SMTPAccount(**given))
        services.close()
        return given["id"]

    def copies(self) -> Counter[str]:
        """Return how many copies each address has got."""
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
        self._sessions.add(process.pid)
        return process

    def answers(self) -> bool:
        """Return whether the API answers. Fails if it has ended."""
        assert self.processes["api"].poll() is None, (self.var / "api.out").read_text()
        try:
            return self.http.get(f"{self.url}/health", timeout=2).status_code == 200
        except (requests.ConnectionError, requests.Timeout):  # it is still starting
            return False


def _armed(fault: str | None) -> dict[str, str]:
    return {"FAULT": fault, "FAULTS_ALLOWED": "1"} if fault else {}


def _written(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def last_words(service: Service, *programs: list[str], code: int, **settings: str) -> list[str]:
    """Start programs that must end with that exit code; return the one line that each prints, without a secret."""
    environment = service.environment | {f"MAILBBGUN_{name}": value for name, value in settings.items()}
    started = [
        subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for program in programs
    ]
    lines = []
    for process in started:
        try:
            out, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        told = [line for line in errors.splitlines() if " info Starting gunicorn" not in line]
        assert (process.returncode, len(told)) == (code, 1), (out, errors)
        assert "Traceback" not in out + errors
        assert CANARY not in out + errors
        lines += told
    return lines
