"""A provider's SMTP server as a process: TLS by a private authority, AUTH, failures on demand.

:class:`MailServer` starts, kills and restarts the process, always on the same port, and makes it
fail. The process itself is ``python -m tests.servers.mailserver FOLDER``: the server of
``tests/smtp/peers.py``. It keeps what it accepted in ``FOLDER/taken``, one JSON line per message,
written before it answers the final dot.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import Sandbox, free_port
from tests.smtp.authority import Authority, server_context
from tests.smtp.behaviours import then_close
from tests.smtp.peers import Dialogue, Gone, Peer, Received

ROOT = Path(__file__).parents[2]
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class Failure(StrEnum):
    """What a server can be told to do wrong.

    A failure holds for every connection until the next order.
    """

    AUTH = "auth"  # 535, also for the right password
    BANNER = "banner"  # 421, then closes
    CLOSE = "close"  # closes before its greeting or handshake
    RCPT = "rcpt"  # 450 for every recipient
    SLOW = "slow"  # answers each MAIL late


@dataclass(frozen=True)
class _Configuration:
    """What the process reads at its start, from a file: other users can see command lines."""

    port: int
    security: str
    certificate: str
    users: dict[str, str]


class MailServer:
    """A server on ``port`` of 127.0.0.1.

    ``security`` is ``starttls`` (AUTH only once encrypted), ``tls`` or ``none``. ``folder`` holds
    its certificates and messages. Servers with the same ``authority`` are trusted by the same
    ``ca_file``.
    """

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str],
        security: str = "starttls",
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
        authority: Authority | None = None,
    ) -> None:
        self.port = free_port()
        self._sandbox = Sandbox("mailserver", "", folder)
        self._folder = self._sandbox.folder
        authority = authority or Authority(self._folder)
        self.ca_file = authority.ca_file
        certificate = str(authority.issue(*hosts))
        self._write("configuration", json.dumps(asdict(_Configuration(self.port, security, certificate, dict(users)))))

    def start(self) -> None:
        """Start it and wait until it listens. Messages it accepted before are kept."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._sandbox.spawn(
            "server", [sys.executable, "-m", "tests.servers.mailserver", str(self._folder)], environment
        )
        self._sandbox.wait_until("server", lambda: self._read("listening") == str(self._sandbox.pid("server")))

    def kill(self) -> None:
        """Kill it with -9.

        The kernel resets its connections; messages without an answer get none.
        """
        self._sandbox.end("server", signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again on the same port. It keeps failing as before."""
        self.kill()
        self.start()

    def fail(self, failure: Failure, seconds: float = 1.0) -> None:
        """Do this wrong from now on. ``seconds`` is the delay of ``SLOW``."""
        self._write("failure", json.dumps([failure, seconds]))

    def heal(self) -> None:
        """Do nothing wrong from now on."""
        (self._folder / "failure").unlink(missing_ok=True)

    def taken(self) -> list[dict[str, Any]]:
        """Return the messages it accepted, in order.

        Each has ``from``, ``to``, ``id`` (Message-ID), ``sha`` (SHA-256 of the data as sent),
        ``user`` and ``at``.
        """
        return [json.loads(line) for line in self._read("taken").splitlines(keepends=True) if line.endswith("\n")]

    def connections(self) -> int:
        """Return how many connections were opened to it, over all restarts."""
        return len(self._read("connections"))

    def close(self) -> None:
        """Kill it and remove its folder."""
        self._sandbox.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        """Replace a file atomically: the process may read it at any time."""
        draft = self._folder / f".{name}"
        draft.write_text(text)
        draft.replace(self._folder / name)


# -- in the process


class _Keeper(Peer):
    """A peer that records messages and connections in two files, which survive it."""

    log = calls = -1

    def _serve(self, connection: socket.socket) -> None:
        os.write(self.calls, b".")
        super()._serve(connection)

    def took(self, user: str | None, message: Received) -> None:
        found = _MESSAGE_ID.search(message.raw)
        line = {
            "from": message.mail_from,
            "to": message.recipients,
            "id": found[1].decode() if found else None,
            "sha": hashlib.sha256(message.raw).hexdigest(),
            "user": user,
            "at": time.time(),
        }
        os.write(self.log, json.dumps(line).encode() + b"\n")


def _behaviour(folder: Path, phase: str) -> Callable[[Dialogue], None]:
    """Return what to do at a phase: the normal thing, unless the file then says otherwise."""

    def behave(dialogue: Dialogue) -> None:
        failure, seconds = None, 0.0
        with contextlib.suppress(FileNotFoundError):
            failure, seconds = json.loads((folder / "failure").read_text())
        if failure == Failure.CLOSE and phase in ("tls", "banner"):
            raise Gone
        if failure == phase:
            dialogue.do(_FAULTS[phase])
            return
        if failure == Failure.SLOW and phase == "mail":
            time.sleep(seconds)
        if phase != "tls":  # in the phase tls the handshake follows by itself
            dialogue.do(dialogue.normal)

    return behave


_FAULTS: Mapping[str, bytes | Callable[[Dialogue], None]] = {
    Failure.AUTH: b"535 5.7.8 authentication credentials invalid\r\n",
    Failure.BANNER: then_close(b"421 4.3.2 service not available\r\n"),
    Failure.RCPT: b"450 4.2.0 not now\r\n",
}


def _serve(folder: Path) -> None:
    configuration = _Configuration(**json.loads((folder / "configuration").read_text()))
    keeper = _Keeper(
        at={phase: _behaviour(folder, phase) for phase in ("tls", "banner", "auth", "mail", "rcpt")},
        tls=None if configuration.security == "none" else server_context(Path(configuration.certificate)),
        implicit=configuration.security == "tls",
        users=configuration.users,
        mechanisms="PLAIN LOGIN",
        auth_required=bool(configuration.users),
        auth_in_clear=configuration.security == "none",
        port=configuration.port,
    )
    keeper.log, keeper.calls = (
        os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600) for name in ("taken", "connections")
    )
    with keeper:
        (folder / "listening").write_text(str(os.getpid()))
        threading.Event().wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
