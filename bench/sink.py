"""Where all mail of a run goes, and how much has come: Postfix's ``smtp-sink``, or one of ours where that cannot be had."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

from bench import OURSELVES, ROOT, BenchError, postfix
from tests.servers.install import Missing
from tests.servers.process import Sandbox, free_port

Kind = Literal["auto", "smtp-sink", "asyncio"]
KINDS = ("auto", "smtp-sink", "asyncio")

_COUNT = re.compile(rb"mesg=(\d+)\r")
_TAIL = 200  # bytes that surely hold a whole count


class Sink:
    """A running sink. ``name`` says which, ``why`` why it is not the fast one."""

    def __init__(self, kind: Kind, delay: float = 0.0) -> None:
        """``delay``: seconds before each answer, which only ``asyncio`` can. Raises :class:`BenchError` if ``smtp-sink`` is asked for and
        cannot be had.
        """
        self.port = free_port()
        self.name, self.why = "asyncio", ""
        argv = [sys.executable, str(ROOT / "bench" / "asyncio_sink.py"), str(self.port), str(delay)]
        user = OURSELVES
        if kind != "asyncio":
            try:
                # It will not run as root; its limit of connections is 256 unless told.
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
        """Return how many messages it has taken, for a few microseconds: it appends its count to a file that we read the end of."""
        size = os.fstat(self._log).st_size
        found = _COUNT.findall(os.pread(self._log, _TAIL, max(0, size - _TAIL)))
        return int(found[-1]) if found else 0

    @contextmanager
    def on_core(self, core: int) -> Iterator[None]:
        """Keep it on one core for a while."""
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
