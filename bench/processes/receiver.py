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

    def __init__(self) -> None:
        self._port = free_port()
        self._sandbox = Sandbox("bench-receiver", OURSELVES)

    def url(self, number: int) -> str:
        """Return one of its URLs; all behave alike."""
        return f"http://127.0.0.1:{self._port}/{number}"

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "bench.programs.receiver", str(self._port)]
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
