"""A running server that takes webhook requests."""

import os
import socket
import sys
from types import TracebackType
from typing import Self

from bench import OURSELVES, ROOT
from tests.servers.process import Sandbox, free_port


class Receiver:
    """Takes every request in a process of its own, whose CPU is nobody's."""

    def __init__(self, *, times: bool = False) -> None:
        """``times``: note how old each event is when it arrives."""
        self._port = free_port()
        self._sandbox = Sandbox("bench-receiver", OURSELVES)
        self._arrivals = self._sandbox.folder / "arrivals" if times else None

    def url(self, path: str) -> str:
        """Return the URL of a path. To one that begins with ``never`` there is no answer."""
        return f"http://127.0.0.1:{self._port}/{path}"

    def ages(self, path: str) -> list[float]:
        """Return how many seconds old each event was that has arrived at a path."""
        assert self._arrivals is not None
        lines = self._arrivals.read_text().splitlines() if self._arrivals.exists() else []
        return [float(age) for to, age in map(str.split, lines) if to == f"/{path}"]

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "bench.programs.receiver", str(self._port)]
        argv += [str(self._arrivals)] if self._arrivals else []
        self._sandbox.spawn("receiver", argv, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
        self._sandbox.wait_until("receiver", self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True
