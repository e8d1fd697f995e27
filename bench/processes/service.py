"""A fresh installation of Mail BB Gun: API, SMTP door and worker on free ports, in a temporary folder."""

import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import OURSELVES, ROOT, BenchError
from bench.processes.clients import Clients
from bench.processes.system import Progress
from bench.programs import load as loading
from bench.programs.shapes import SHORT
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.domains import edit
from mailbbgun.domains.dns.look import DNSReport
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.webhooks import edit as webhooks
from tests.servers.process import Sandbox, free_port

STOP_SECONDS = 40.0


class Service:
    """One installation.

    ``settings`` are those that differ from the defaults. ``servers`` are the process ids of the
    servers it uses. If the settings demand API keys, it makes one to hand messages in with.
    """

    def __init__(self, name: str, settings: Mapping[str, str], servers: Mapping[str, int], root: Path = ROOT) -> None:
        """``root`` is the tree whose code runs."""
        self.port, self.smtp_port, self.servers = free_port(), free_port(), servers
        self._root = root
        self._started: set[str] = set()
        self._key = ""
        self._sandbox = Sandbox(f"bench-{name}", OURSELVES)
        ours = {"VAR": str(self._sandbox.folder / "var"), "PORT": str(self.port), "HOSTNAME": "bench.example.test"}
        ours |= {"SMTPD_PORT": str(self.smtp_port)} if (root / "smtpd.py").exists() else {}  # an older commit has none
        others = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
        self._environment = (
            others
            | {"PYTHONPATH": str(root)}
            | {f"MAILBBGUN_{name}": value for name, value in (ours | dict(settings)).items()}
        )

    def open(self) -> None:
        """Start the API and wait until it answers."""
        self._spawn("api")
        self._ready("api", "/health")

    def shut(self) -> None:
        """Stop the API. Before it ends it publishes all hints it still has."""
        self.stop("api")

    def open_smtp(self) -> None:
        """Start the SMTP door, make a key to submit with, and wait until it listens."""
        self._key = self._make_key("--scope", "smtp")
        self._spawn("smtpd")
        self._wait("smtpd", self._listens)

    def shut_smtp(self) -> None:
        """Stop the SMTP door. Before it ends it publishes all hints it still has."""
        self.stop("smtpd")

    def deliver(self) -> None:
        """Start a worker, without waiting until it is ready."""
        self._spawn("worker")

    def hand_in(
        self,
        clients: Clients,
        first: int,
        count: int,
        connections: int,
        on_progress: Progress = lambda _: None,
        shape: str = SHORT,
    ) -> dict[str, Any]:
        """POST messages. The result also has ``answers``, the seconds of each answer."""
        return clients.run(
            "programs.load",
            self.port,
            first,
            count,
            connections,
            shape,
            on_progress=on_progress,
            environment={loading.KEY: self._key},
        )

    def submit(
        self, clients: Clients, first: int, count: int, connections: int, on_progress: Progress = lambda _: None
    ) -> dict[str, Any]:
        """Submit messages by SMTP."""
        environment = {loading.KEY: self._key}
        arguments = ("programs.submit", self.smtp_port, first, count, connections)
        return clients.run(*arguments, on_progress=on_progress, environment=environment)

    def hand_in_batches(
        self, clients: Clients, first: int, count: int, connections: int, on_progress: Progress = lambda _: None
    ) -> dict[str, Any]:
        """POST messages in batches."""
        return clients.run("programs.batches", self.port, first, count, connections, on_progress=on_progress)

    def sign(self, domain: str) -> None:
        """Let mail from a domain be signed from now on."""
        services = self.services()
        try:
            with services.db.write() as session:
                made = edit.create(session, services.vault, DEFAULT_TENANT, new_id(), domain, edit.pairs())
                edit.note(session, made, DNSReport((), frozenset()), force=True)
        finally:
            services.close()

    def watch(self, urls: Sequence[str]) -> None:
        """Let these webhooks get every event from now on."""
        services = self.services()
        wanted = {"description": "", "kinds": [], "test": False, "enabled": True}
        try:
            with services.db.write() as session:
                for url in urls:
                    webhooks.create(
                        session,
                        services.vault,
                        services.settings,
                        DEFAULT_TENANT,
                        new_id(),
                        wanted | {"url": url},
                        webhooks.secret_of(None),
                    )
        finally:
            services.close()

    def own(self) -> list[int]:
        """Return the process ids of API, SMTP door and worker, if they were started."""
        return [self._pid(name) for name in sorted(self._started)]

    def log(self) -> str:
        """Return the end of their logs."""
        logs = [self._sandbox.folder / f"{name}.log" for name in sorted(self._started)]
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs)

    def stop(self, name: str) -> None:
        """Stop ``api``, ``smtpd`` or ``worker`` by SIGTERM and wait for its end."""
        self._pid(name)
        self._started.remove(name)
        self._sandbox.end(name, signal.SIGTERM, STOP_SECONDS)

    def count(self, status: str) -> int:
        """Return how many messages have a status."""
        status_code, body = self._get(f"/messages?limit=0&status={status}")
        if status_code != 200:
            raise BenchError(f"GET /messages: {status_code} {body[:500]!r}")
        return int(json.loads(body)["count"])

    def services(self) -> Services:
        """Build the services of this installation in our own process. The caller closes them."""
        return build(load(self._environment))

    def __enter__(self) -> Self:
        try:
            self._sandbox.run([sys.executable, str(self._root / "initdb.py")], self._environment)
            if load(self._environment).AUTH_REQUIRED:
                self._key = self._make_key()
        except RuntimeError as error:
            self._sandbox.close()
            raise BenchError(str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()

    def _pid(self, name: str) -> int:
        pid = self._sandbox.pid(name)
        if pid is None:
            raise BenchError(f"the {name} died:\n{self.log()}")
        return pid

    def _spawn(self, name: str) -> None:
        self._started.add(name)
        self._sandbox.spawn(name, [sys.executable, str(self._root / f"{name}.py")], self._environment)

    def _make_key(self, *options: str) -> str:
        argv = [str(self._root / "bin" / "mailbbgun"), "key", "create", "--quiet", *options]
        return self._sandbox.run(argv, self._environment).split()[-1]

    def _ready(self, name: str, path: str) -> None:
        self._wait(name, lambda: self._answers(path))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.smtp_port)) == 0

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        try:
            self._sandbox.wait_until(name, ready)
        except RuntimeError as error:
            raise BenchError(str(error)) from error

    def _answers(self, path: str) -> bool:
        try:
            return self._get(path)[0] == 200
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
