"""Runs a Python peer: three uses of one small program, each a process in the peers' environment.

Its ``install`` makes tables and queues, its ``work`` delivers, and ``bench.peers.submit`` calls its
``submitter``.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import OURSELVES, ROOT, BenchError
from bench.processes.clients import Clients
from bench.processes.servers import Lent
from bench.processes.system import Progress
from bench.programs.shapes import SHORT
from tests.servers.process import Sandbox

USES = {"celery": ("rabbitmq",), "post_office": ("postgresql",), "design_2017": ("postgresql", "rabbitmq")}


class Program:
    """One fresh installation of a Python peer."""

    def __init__(self, name: str, python: Path, sink_port: int, lent: Lent, servers: Mapping[str, int]) -> None:
        """``python`` is the peers' interpreter.

        ``servers`` are the process ids of all running servers.
        """
        self.servers = {server: servers[server] for server in USES[name] if server in servers}
        self._name, self._python = name, str(python)
        self._sandbox = Sandbox(f"bench-{name}", OURSELVES)
        self._environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "BENCH_DATABASE_URL": lent.database_url.replace("+psycopg2", ""),
            "BENCH_AMQP_URL": lent.amqp_url,
            "BENCH_SMTP_PORT": str(sink_port),
        }
        self._works = False

    def open(self) -> None:
        """Do nothing: the servers alone take messages in."""

    def shut(self) -> None:
        """Do nothing."""

    def deliver(self) -> None:
        """Start its worker."""
        self._works = True
        self._sandbox.spawn("worker", self._argv("work"), self._environment)

    def hand_in(
        self,
        clients: Clients,
        first: int,
        count: int,
        connections: int,
        on_progress: Progress = lambda _: None,
        shape: str = SHORT,
    ) -> dict[str, Any]:
        """Call its ``submitter`` in as many threads as there are connections.

        Raises :class:`BenchError` for any shape but ``short``.
        """
        if shape != SHORT:
            raise BenchError(f"{self._name} is measured with {SHORT} messages, not with {shape}")
        arguments = (self._name, first, count, connections)
        return clients.run(
            "peers.submit", *arguments, on_progress=on_progress, python=self._python, environment=self._environment
        )

    def own(self) -> list[int]:
        """Return the process id of its worker, if that was started."""
        pid = self._sandbox.pid("worker")
        if self._works and pid is None:
            raise BenchError(f"the worker of {self._name} died:\n{self.log()}")
        return [pid] if pid else []

    def log(self) -> str:
        """Return the end of its worker's log."""
        path = self._sandbox.folder / "worker.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def __enter__(self) -> Self:
        try:
            self._sandbox.run(self._argv("install"), self._environment)
        except RuntimeError as error:
            self._sandbox.close()
            raise BenchError(str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.end("worker", signal.SIGTERM)
        self._sandbox.close()

    def _argv(self, use: str) -> list[str]:
        return [self._python, "-c", f"from bench.peers import {self._name} as peer; peer.{use}()"]
