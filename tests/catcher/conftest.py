"""A catcher in a process of its own, and clients that talk to it."""

import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.servers.process import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


class Catcher:
    """A running catcher."""

    def __init__(self, var: Path, *, files: int | None = None, **settings: object) -> None:
        given = {f"MAILBBGUN_{name}": str(value) for name, value in settings.items()}
        self.port, self.mail, self._log = free_port(), var / "mail", var.with_suffix(".log")
        limited = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*limited, sys.executable, "-W", "error", "-m", "mailbbgun.catcher"],
                cwd=ROOT,
                env=environment(var, self.port) | given,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: "catching" in self.log() or self.process.poll() is not None, "a catcher that listens")
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        """Return what the catcher has printed."""
        return self._log.read_text()

    def kept(self) -> list[bytes]:
        """Return the messages in new/, oldest first."""
        return [
            file.read_bytes()
            for file in sorted((self.mail / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        ]

    def only(self) -> Message:
        """Return the one message in new/."""
        (content,) = self.kept()
        return message_from_bytes(content)

    def smtp(self) -> smtplib.SMTP:
        """Return a connected client."""
        return smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=PATIENCE)

    def peak_memory(self) -> int:
        """Return the most memory that the catcher has had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop the catcher and return its exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(PATIENCE)


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.link = socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0))
        self._lines = self.link.makefile("rb")
        self.reply()

    def reply(self) -> bytes:
        """Return the last line of the next reply."""
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        return line.rstrip(b"\r\n")

    def say(self, line: bytes) -> bytes:
        """Send a command and return its reply."""
        self.link.sendall(line + b"\r\n")
        return self.reply()

    def begin_data(self) -> None:
        """Send commands up to DATA, which is answered 354."""
        for line in (b"EHLO client.test", b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>"):
            assert self.say(line).startswith(b"250")
        assert self.say(b"DATA").startswith(b"354")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.link.close()


def environment(var: Path, port: int) -> dict[str, str]:
    """Return the environment of a catcher."""
    return os.environ | {"MAILBBGUN_VAR": str(var), "MAILBBGUN_CATCHER_PORT": str(port)}


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[Catcher]:
    """A catcher, which must end with code 0 and without a traceback."""
    one = Catcher(tmp_path / "var")
    yield one
    assert one.process.poll() is not None or one.stop() == 0
    assert "Traceback" not in one.log()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    """One catcher for tests that must leave no message in it."""
    one = Catcher(tmp_path_factory.mktemp("catcher") / "var")
    yield one
    assert one.stop() == 0
