"""SMTP servers on loopback for tests, which misbehave as they are told.

A `Peer` is an SMTP server with a thread for each connection. A `Behaviour` says what it does at a
phase: a function of the `Dialogue`, or the bytes to answer. The peer keeps everything it saw:
`commands`, `messages`, `connections`.
"""

import base64
import contextlib
import hmac
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mailbbgun.smtp.endpoint import Timeouts
from tests.waiting import PATIENCE

Behaviour = "bytes | Callable[[Dialogue], None]"
PATIENT = Timeouts(
    **dict.fromkeys(
        ("connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "body", "dot", "rset", "quit"), PATIENCE
    )
)
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "SMTPUTF8")


@dataclass
class Received:
    """A message a peer received: raw is what came between 354 and the dot, still dot-stuffed."""

    mail_from: str
    recipients: list[str]
    raw: bytes


class Gone(Exception):
    """The dialogue is over."""


def hang_up(dialogue: "Dialogue") -> None:
    """Close in good order."""
    raise Gone


@dataclass
class Peer:
    """An SMTP server on `host`:`port`; use as a context manager.

    `at` maps phases (banner, ehlo, helo, starttls, tls, auth, mail, rcpt, data, body, dot, rset,
    quit) to behaviours. `rcpt` answers by address and wins over `at["rcpt"]`. `tls` is a server
    context: with `implicit` from the first byte, else STARTTLS is offered. `users` maps names to
    passwords; `mechanisms` is what AUTH offers. `auth_required` refuses mail without AUTH;
    `auth_in_clear=False` offers and takes AUTH only under TLS.
    """

    at: Mapping[str, "bytes | Callable[[Dialogue], None]"] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    rcpt: Callable[[str], bytes] | None = None
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN CRAM-MD5"
    auth_required: bool = False
    auth_in_clear: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    messages: list[Received] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    connections: int = 0

    def took(self, user: str | None, message: Received) -> None:
        """Called when a message is complete and its dot not answered yet; `user` if authenticated."""
        self.messages.append(message)

    def __enter__(self) -> "Peer":
        self._listener = socket.create_server((self.host, self.port), backlog=50)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        dialogue = Dialogue(self, connection)
        try:
            dialogue.run()
        except (Gone, OSError):
            pass  # the client or the behaviour closed it
        finally:
            self._open.discard(connection)
            dialogue.socket.close()


class Dialogue:
    """One connection of a `Peer`."""

    def __init__(self, peer: Peer, connection: socket.socket) -> None:
        self.peer = peer
        self.socket: socket.socket = connection
        self.buffer = b""
        self.encrypted = False
        self.normal: Callable[[Dialogue], None] = hang_up
        self.command = b""
        self.user: str | None = None
        self._clear()

    def say(self, answer: bytes) -> None:
        self.socket.sendall(answer)

    def do(self, behaviour: "bytes | Callable[[Dialogue], None]") -> None:
        if isinstance(behaviour, bytes):
            self.say(behaviour)
        else:
            behaviour(self)

    def run(self) -> None:
        if self.peer.implicit:
            self._handshake()
        self._phase("banner", lambda _: self.say(b"220 peer.test ESMTP\r\n"))
        while True:
            self.command = self._line()
            self.peer.commands.append(self.command)
            verb = self.command.split(b" ")[0].split(b":")[0].lower().decode("ascii", "replace")
            step = getattr(self, f"_{verb}", None)
            self._phase(verb, step if step else lambda _: self.say(b"500 5.5.2 what?\r\n"))

    def _phase(self, phase: str, normal: "Callable[[Dialogue], None]") -> None:
        self.normal = normal
        self.do(self.peer.at.get(phase, normal))

    def _fill(self) -> None:
        more = self.socket.recv(65536)
        if not more:
            raise Gone
        self.buffer += more

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _clear(self) -> None:
        self.mail_from: str | None = None
        self.recipients: list[str] = []

    def _ehlo(self, _: object) -> None:
        words = ["peer.test", *self.peer.extensions]
        if self.peer.tls and not self.encrypted:
            words.append("STARTTLS")
        if self.peer.users and (self.encrypted or self.peer.auth_in_clear):
            words.append(f"AUTH {self.peer.mechanisms}")
        lines = [f"250{' ' if word is words[-1] else '-'}{word}\r\n" for word in words]
        self.say("".join(lines).encode())

    def _helo(self, _: object) -> None:
        self.say(b"250 peer.test\r\n")

    def _starttls(self, _: object) -> None:
        self.say(b"220 2.0.0 go ahead\r\n")
        self._handshake()

    def _handshake(self) -> None:
        if "tls" in self.peer.at:
            self.do(self.peer.at["tls"])
        assert self.peer.tls is not None
        plain = self.socket
        if not plain.recv(1, socket.MSG_PEEK):  # wrap_socket leaks the socket if the client is gone
            raise Gone
        self.socket = self.peer.tls.wrap_socket(plain, server_side=True)
        self.encrypted = True
        self.buffer = b""
        self.peer._open.discard(plain)
        self.peer._open.add(self.socket)

    def _auth(self, _: object) -> None:
        if not self.encrypted and not self.peer.auth_in_clear:
            self.say(b"538 5.7.11 not in clear\r\n")
            return
        words = self.command.split()
        user, good = {b"PLAIN": self._plain, b"LOGIN": self._login, b"CRAM-MD5": self._cram}[words[1]](words[2:])
        self.user = user if good else None
        self.say(b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 wrong\r\n")

    def _plain(self, words: list[bytes]) -> tuple[str, bool]:
        if not words:
            self.say(b"334 \r\n")
        _, user, password = base64.b64decode(words[0] if words else self._line()).decode().split("\0")
        return user, self.peer.users.get(user) == password

    def _login(self, words: list[bytes]) -> tuple[str, bool]:
        answers = [base64.b64decode(word).decode() for word in words]  # some clients send the name at once
        for prompt in (b"Username:", b"Password:")[len(answers) :]:
            self.say(b"334 " + base64.b64encode(prompt) + b"\r\n")
            answers.append(base64.b64decode(self._line()).decode())
        return answers[0], self.peer.users.get(answers[0]) == answers[1]

    def _cram(self, words: list[bytes]) -> tuple[str, bool]:
        challenge = b"<1.2@peer.test>"
        self.say(b"334 " + base64.b64encode(challenge) + b"\r\n")
        user, digest = base64.b64decode(self._line()).decode().split(" ")
        expected = hmac.new(self.peer.users.get(user, "\0").encode(), challenge, "md5").hexdigest()
        return user, digest == expected

    def _mail(self, _: object) -> None:
        if self.peer.auth_required and self.user is None:
            self.say(b"530 5.7.0 authentication required\r\n")
            return
        if self.mail_from is not None:
            self.say(b"503 5.5.1 nested MAIL\r\n")
            return
        self.mail_from = self.command.split(b"<")[1].split(b">")[0].decode()
        self.say(b"250 2.1.0 ok\r\n")

    def _rcpt(self, _: object) -> None:
        address = self.command.split(b"<")[1].split(b">")[0].decode()
        answer = self.peer.rcpt(address) if self.peer.rcpt else b"250 2.1.5 ok\r\n"
        if self.mail_from is None:
            answer = b"503 5.5.1 MAIL first\r\n"
        if answer.startswith(b"250"):
            self.recipients.append(address)
        self.say(answer)

    def _data(self, _: object) -> None:
        if not self.recipients:
            self.say(b"554 5.5.1 no valid recipients\r\n")
            return
        self.say(b"354 go on\r\n")
        self.take_message()

    def take_message(self) -> None:
        """Receive a message: from 354 to the answer to the dot."""
        if "body" in self.peer.at:
            self.do(self.peer.at["body"])
        seen, searched = bytearray(b"\r\n" + self.buffer), 0
        while (end := seen.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(seen) - 4)
            more = self.socket.recv(1 << 18)
            if not more:
                raise Gone
            seen += more
        self.buffer = bytes(seen[end + 5 :])
        self.peer.took(self.user, Received(self.mail_from or "", self.recipients, bytes(seen[2 : end + 2])))
        self._clear()
        self._phase("dot", lambda _: self.say(b"250 2.0.0 queued\r\n"))

    def _rset(self, _: object) -> None:
        self._clear()
        self.say(b"250 2.0.0 flushed\r\n")

    def _quit(self, _: object) -> None:
        self.say(b"221 2.0.0 bye\r\n")
        raise Gone
