"""The server that takes all mail of a run and counts it: Postfix's ``smtp-sink``, or our own."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from bench import OURSELVES, ROOT, BenchError
from bench.processes import postfix
from bench.programs import counts
from bench.programs.asyncio_sink import PASSWORD, USER
from tests.servers.install import Missing
from tests.servers.process import Sandbox, free_port
from tests.smtp.authority import Authority

Kind = Literal["auto", "smtp-sink", "asyncio"]
KINDS = ("auto", "smtp-sink", "asyncio")
NAME = "sink.example.test"
"""A name in the certificate of a sink with TLS, beside its address."""

_COUNT = re.compile(rb"sess=(\d+) quit=\d+ mesg=(\d+)\r")
_TAIL = 200  # bytes that surely hold a whole counter line


class Sink:
    """A running sink. ``name`` says which; ``why`` says why it is not ``smtp-sink``."""

    def __init__(
        self,
        kind: Kind,
        delay: float = 0.0,
        *,
        processes: int = 1,
        tls: bool = False,
        silent: bool = False,
        arrivals: bool = False,
        address: str = "127.0.0.1",
        port: int | None = None,
    ) -> None:
        """Start a sink on a port, by default on a free one.

        The other options are those of ``bench.programs.asyncio_sink`` and only that one has them.
        With ``tls`` it makes a certificate authority of its own for its certificate. Raises
        :class:`BenchError` if ``kind`` is ``smtp-sink`` and that cannot be installed.
        """
        self.port = port or free_port()
        self.name, self.why, self._address = "asyncio", "", address
        argv: list[str] = []
        if kind != "asyncio":
            try:
                # smtp-sink refuses to run as root. Its default limit is 256 connections.
                argv = [postfix.program("smtp-sink"), "-c", "-m", "2000", f"{address}:{self.port}", "1000"]
                self.name = f"smtp-sink (Postfix {postfix.default('mail_version')})"
            except Missing as error:
                if kind == "smtp-sink":
                    raise BenchError(str(error)) from error
                self.why = str(error)
        self._sandbox = Sandbox("bench-sink", "nobody" if argv else OURSELVES)
        self._counts = None if argv else self._sandbox.folder / "counts"
        self._arrivals = self._sandbox.folder / "arrivals"
        self._authority = Authority(self._sandbox.folder) if tls else None
        if self._counts:
            argv = [sys.executable, "-m", "bench.programs.asyncio_sink", address, str(self.port), str(self._counts)]
            argv += ["--delay", str(delay), "--processes", str(processes), *(["--silent"] if silent else [])]
            argv += ["--arrivals", str(self._arrivals)] if arrivals else []
            argv += ["--certificate", str(self._authority.issue(NAME, address))] if self._authority else []
        self._sandbox.spawn("sink", argv, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
        self._log = os.open(self._sandbox.folder / "sink.log", os.O_RDONLY)

    @property
    def pid(self) -> int:
        """Its process id. Raises :class:`BenchError` if it has ended."""
        if (pid := self._sandbox.pid("sink")) is None:
            raise BenchError(f"the sink died: {os.pread(self._log, 2000, 0).decode(errors='replace')}")
        return pid

    @property
    def encrypts(self) -> bool:
        """Whether it offers STARTTLS."""
        return self._authority is not None

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that issued its own. Raises ValueError without TLS."""
        if self._authority is None:
            raise ValueError("a sink without TLS has no certificate")
        return Path(self._authority.ca_file)

    def settings(self) -> dict[str, str]:
        """Return the settings of an installation of ours that sends all its mail here.

        With TLS it must use STARTTLS, check the certificate, and log in.
        """
        if self._authority is None:
            return {"SMTP_URL": f"smtp://{self._address}:{self.port}?security=none"}
        url = f"smtp://{USER}:{PASSWORD}@{self._address}:{self.port}?security=starttls"
        return {"SMTP_URL": url, "SMTP_CA_FILE": self._authority.ca_file}

    def count(self) -> int:
        """Return how many messages it has taken. Costs a few microseconds."""
        return self.counts()["messages"]

    def counts(self) -> dict[str, int]:
        """Return ``sessions`` and ``messages`` that it has taken.

        Ours has all of :data:`bench.programs.counts.COUNTED`.
        """
        if self._counts:
            return counts.read(self._file)
        # smtp-sink appends its counters to a file, of which we read the end.
        size = os.fstat(self._log).st_size
        found = _COUNT.findall(os.pread(self._log, _TAIL, max(0, size - _TAIL)))
        sessions, messages = found[-1] if found else (0, 0)
        return {"sessions": int(sessions), "messages": int(messages)}

    def arrivals(self) -> dict[str, float]:
        """Return address → ``time.monotonic()`` when the last message to it arrived."""
        lines = [line.split() for line in self._arrivals.read_text().splitlines()]
        return {address: float(moment) for address, moment in lines}

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
        try:
            self._sandbox.wait_until("sink", self._listens)
            self._file = os.open(self._counts, os.O_RDONLY) if self._counts else self._log
        except BaseException:
            self._sandbox.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in {self._log, self._file}:
            os.close(descriptor)
        self._sandbox.close()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._address, self.port)) == 0
