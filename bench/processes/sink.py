"""The server that takes all mail of a run and counts it: Postfix's ``smtp-sink``, or our own."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

from bench import OURSELVES, ROOT, BenchError
from bench.processes import postfix
from tests.servers.install import Missing
from tests.servers.process import Sandbox, free_port

Kind = Literal["auto", "smtp-sink", "asyncio"]
KINDS = ("auto", "smtp-sink", "asyncio")

_COUNT = re.compile(rb"mesg=(\d+)\r")
_TAIL = 200  # bytes that surely hold a whole counter line


class Sink:
    """A running sink. ``name`` says which; ``why`` says why it is not ``smtp-sink``."""

    def __init__(self, kind: Kind, delay: float = 0.0) -> None:
        """Start a sink with ``delay`` seconds before each answer, which only ``asyncio`` supports.

        Raises :class:`BenchError` if ``kind`` is ``smtp-sink`` and that cannot be installed.
        """
        self.port = free_port()
        self.name, self.why = "asyncio", ""
        argv = [sys.executable, str(ROOT / "bench" / "programs" / "asyncio_sink.py"), str(self.port), str(delay)]
        user = OURSELVES
        if kind != "asyncio":
            try:
                # smtp-sink refuses to run as root. Its default limit is 256 connections.
                argv = [postfix.program("smtp-sink"), "-c", "-m", "2000", f"127.0.0.1:{self.port}", "1000"]
                self.name, user = f"smtp-sink (Postfix {postfix.default('mail_version')})", "nobody"
            except Missing as error:
                if kind == "smtp-sink":
                    raise BenchError(str(error)) from error
                self.why = str(error)
        self._sandbox = Sandbox("bench-sink", user)
        self._sandbox.spawn("sink", argv, {"PATH": os.environ["PATH"]})
        self._log = os.open(self._sandbox.folder / "sink.log", os.O_RDONLY)

    @property
    def pid(self) -> int:
        """Its process id. Raises :class:`BenchError` if it has ended."""
        if (pid := self._sandbox.pid("sink")) is None:
            raise BenchError(f"the sink died: {os.pread(self._log, 2000, 0).decode(errors='replace')}")
        return pid

    def count(self) -> int:
        """Return how many messages it has taken.

        Costs a few microseconds: the sink appends its counter to a file, of which we read the end.
        """
        size = os.fstat(self._log).st_size
        found = _COUNT.findall(os.pread(self._log, _TAIL, max(0, size - _TAIL)))
        return int(found[-1]) if found else 0

    @contextmanager
    def on_core(self, core: int) -> Iterator[None]:
        """Keep the sink on one core during the block."""
        before = os.sched_getaffinity(self.pid)
        os.sched_setaffinity(self.pid, {core})
        try:
            yield
        finally:
            os.sched_setaffinity(self.pid, before)

    def __enter__(self) -> Self:
        self._sandbox.wait_until("sink", self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._log)
        self._sandbox.close()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
