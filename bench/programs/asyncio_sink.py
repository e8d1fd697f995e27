"""An SMTP server that accepts every message and keeps none.

Run as ``python -m bench.programs.asyncio_sink ADDRESS PORT COUNTS``, with options. It is the sink
of machines without ``smtp-sink``, and of all that ``smtp-sink`` cannot do:

- ``--delay SECONDS``: the slow sink answers each command, and each end of a message, only after
  these seconds. It starts on the next command when it has answered the one before, also when a
  client pipelines them. (``smtp-sink -W`` does the same, but only in whole seconds.) Greeting, EHLO,
  STARTTLS and AUTH are not delayed.
- ``--certificate PEM``: it offers STARTTLS, and in TLS the AUTH mechanisms PLAIN and LOGIN, for
  :data:`USER` and :data:`PASSWORD`. Who does not log in may send all the same. It acknowledges what
  it reads at once (``TCP_QUICKACK``). Otherwise a client that writes a message in several pieces
  (Postfix's ``tlsproxy``) would wait 40 ms for each message, and a figure would be that of timers.
- ``--silent``: it takes connections and never says a word.
- ``--arrivals FILE``: for each message it appends its last recipient and the time,
  ``time.monotonic()``, to a file.
- ``--processes N``: so many processes share the port (``SO_REUSEPORT``).

``COUNTS`` is a file of ``bench.programs.counts``.
"""

import argparse
import asyncio
import base64
import binascii
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.programs.counts import Row, create

USER, PASSWORD = "bench", "Only-for-the-bench"
BACKLOG = 4096  # connections that wait until the process takes them

_ANSWERS = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
_OK = b"250 2.0.0 ok\r\n"
_END = b"\r\n.\r\n"
_AT_ONCE = (b"EHLO", b"STAR", b"AUTH")
_LOGGED_IN, _WRONG = b"235 2.7.0 welcome\r\n", b"535 5.7.8 wrong user name or password\r\n"


class Delay:
    """Calls functions after ``seconds``. All wait equally long, so one timer is enough for them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: deque[tuple[float, Callable[[], None]]] = deque()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function later."""
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._seconds, function))
        if len(self._due) == 1:
            loop.call_later(self._seconds, self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due and self._due[0][0] <= loop.time():
            self._due[0][1]()  # it stays in the list meanwhile, so that no second timer starts
            self._due.popleft()
        if self._due:
            loop.call_at(self._due[0][0], self._run)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a sink does beyond taking mail, and where it counts."""

    row: Row
    delay: Delay | None = None
    tls: ssl.SSLContext | None = None
    silent: bool = False
    arrivals: int | None = None  # descriptor of a file


class Sink(asyncio.Protocol):
    """One connection.

    It supports pipelining: without a delay, one write answers all commands of a read.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour, self._row = behaviour, behaviour.row
        self._buffer = b""
        self._data = False
        self._secret: list[bytes] | None = None  # lines of AUTH LOGIN so far
        self._recipient = b""
        self._spoke = self._upgrading = self._encrypted = False
        self._later: deque[tuple[bytes, int]] = deque()  # answers not yet due, and the messages they end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._spoke = self._behaviour.silent
        if self._behaviour.silent:
            self._row.add("sessions")
        else:
            transport.write(b"220 sink.test ESMTP\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        """Count its end."""
        self._row.add("ended", int(self._spoke))

    def data_received(self, data: bytes) -> None:
        """Answer every complete command and every complete message."""
        if self._behaviour.silent:
            return
        if not self._spoke:  # who only looks whether the sink is there makes no session
            self._spoke = True
            self._row.add("sessions")
        if self._behaviour.tls:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # the kernel forgets it again
        self._buffer += data
        if self._upgrading:
            return  # asyncio may hand over the first command before it hands over the new transport
        answers: list[bytes] = []
        messages, commands, idle = 0, 0, not self._later
        while True:
            before, end, rest = self._buffer.partition(_END if self._data else b"\r\n")
            if not end:
                break
            self._buffer = rest
            if not self._data and self._aside(before, answers):
                continue
            verb = b"" if self._data else before[:4].upper()
            ended = int(self._data)
            commands, messages = commands + 1, messages + ended
            if verb == b"RCPT":
                self._recipient = before
            answer = _ANSWERS.get(verb, _OK)
            if self._behaviour.delay:
                self._answer_later(answer, ended, self._behaviour.delay)
            else:
                answers.append(answer)
            self._data = verb == b"DATA"
            if self._data:
                self._buffer = b"\r\n" + rest  # the end of a message that is only a dot must match _END, too
        if commands:
            self._row.add("commands", commands)
            self._row.add("round_trips", int(idle))
        if answers:
            self._answer(b"".join(answers), messages if not self._behaviour.delay else 0)

    def _aside(self, line: bytes, answers: list[bytes]) -> bool:
        """Answer a command that opens a session, and say whether this was one."""
        if self._secret is not None:
            self._secret.append(line)
            answers.append(self._login())
            return True
        verb = line[:4].upper()
        if verb not in _AT_ONCE:
            return False
        if verb == b"EHLO":
            answers.append(self._extensions())
        elif verb == b"AUTH":
            self._secret = line.split()[1:]
            answers.append(self._login())
        elif self._behaviour.tls is None or self._encrypted:
            answers.append(b"502 5.5.1 not now\r\n")
        else:
            self._buffer = b""  # what was sent in the clear counts for nothing (RFC 3207 §4.2)
            self._upgrading = True
            self._transport.pause_reading()  # the first bytes of the handshake are not for data_received
            self._transport.write(b"220 2.0.0 go ahead\r\n")
            self._task = asyncio.get_running_loop().create_task(self._encrypt(self._behaviour.tls))
        return True

    def _extensions(self) -> bytes:
        more = b""
        if self._behaviour.tls:
            more = b"250-AUTH PLAIN LOGIN\r\n" if self._encrypted else b"250-STARTTLS\r\n"
        return b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n" + more + b"250 SMTPUTF8\r\n"

    def _login(self) -> bytes:
        """Return the answer to AUTH and to each line of it (RFC 4954 §4)."""
        mechanism, *said = self._secret or [b""]
        plain = mechanism.upper() == b"PLAIN"
        if not self._encrypted or (not plain and mechanism.upper() != b"LOGIN"):
            self._secret = None
            return b"504 5.5.4 PLAIN or LOGIN, in TLS\r\n"
        if len(said) < (1 if plain else 2):
            return b"334 \r\n" if plain or said else b"334 VXNlcm5hbWU6\r\n"
        self._secret = None
        try:
            given = [base64.b64decode(line, validate=True) for line in said]
        except binascii.Error:
            return b"501 5.5.2 no base64\r\n"
        right = given[0].split(b"\0")[1:] == _SECRET if plain else given == _SECRET
        self._row.add("logins", int(right))
        return _LOGGED_IN if right else _WRONG

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, self, tls, server_side=True)
        except OSError:
            self._transport.abort()  # the client ended the handshake
            return
        assert transport is not None
        self._transport, self._upgrading, self._encrypted = transport, False, True
        self._row.add("encrypted")
        self.data_received(b"")

    def _answer_later(self, answer: bytes, messages: int, delay: Delay) -> None:
        self._later.append((answer, messages))
        if len(self._later) == 1:
            delay.call(self._answer_next)

    def _answer_next(self) -> None:
        self._answer(*self._later.popleft())
        if self._later and self._behaviour.delay:
            self._behaviour.delay.call(self._answer_next)

    def _answer(self, answers: bytes, messages: int) -> None:
        self._row.add("messages", messages)
        if messages and self._behaviour.arrivals is not None:
            address = self._recipient.partition(b"<")[2].partition(b">")[0]
            os.write(self._behaviour.arrivals, b"%s %.6f\n" % (address, time.monotonic()))
        self._transport.write(answers)
        if answers.endswith(_ANSWERS[b"QUIT"]):
            self._transport.close()


_SECRET = [USER.encode(), PASSWORD.encode()]


async def serve(listening: socket.socket, behaviour: Behaviour) -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(behaviour), sock=listening, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    """Serve in as many processes as the command line says. If one ends, all do."""
    given = _arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    create(given.counts, given.processes)
    arrivals = os.open(given.arrivals, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if given.arrivals else None
    tls = None
    if given.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(given.certificate)
    # All listen before any serves: the kernel deals connections out to those that listen.
    listening = [_listening(given.address, given.port) for _ in range(given.processes)]
    for number in range(1, given.processes):
        if not os.fork():
            _serve_one(listening, number, given, tls, arrivals)
    if given.processes > 1:
        signal.signal(signal.SIGCHLD, lambda *_: sys.exit("a process of the sink died"))
    _serve_one(listening, 0, given, tls, arrivals)


def _serve_one(
    listening: list[socket.socket],
    number: int,
    given: argparse.Namespace,
    tls: ssl.SSLContext | None,
    arrivals: int | None,
) -> None:
    for other in listening[:number] + listening[number + 1 :]:
        other.close()
    row = Row(given.counts, number)
    delay = Delay(given.delay) if given.delay else None
    asyncio.run(serve(listening[number], Behaviour(row, delay, tls, given.silent, arrivals)))


def _listening(address: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((address, port))
    listening.listen(BACKLOG)
    return listening


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="asyncio_sink", allow_abbrev=False)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("counts", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--arrivals", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
