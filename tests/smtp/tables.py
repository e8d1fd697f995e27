"""A driver that answers from a table of octets: no socket, no thread and no time.

`Table` runs one coroutine. Its connections lead to a `Server`, which is as sans-IO as the client.
Where nothing is left to receive, the deadline passes at once.
"""

import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from mailbbgun.drivers.operations import Connect, Conversation, InThread, Operation, Receive, Send, SendFailed

T = TypeVar("T")

#: Cuts what the server says at once into segments.
Cut = Callable[[bytes], Iterator[bytes]]


def whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def pieces(size: int) -> Cut:
    """Return a `Cut` into pieces of so many octets."""

    def cut(octets: bytes) -> Iterator[bytes]:
        for start in range(0, len(octets), size):
            yield octets[start : start + size]

    return cut


def at_octet(place: int) -> Cut:
    """Return a `Cut` in two."""

    def cut(octets: bytes) -> Iterator[bytes]:
        yield from (part for part in (octets[:place], octets[place:]) if part)

    return cut


@dataclass(frozen=True)
class Closes:
    """An answer after which the server closes the connection."""

    answer: bytes = b""


@dataclass(frozen=True)
class Mutes:
    """An answer after which the server says nothing more."""

    answer: bytes = b""


Answer = bytes | Closes | Mutes


class End(Protocol):
    """What takes a client's octets and says something."""

    closed: bool

    def begin(self) -> bytes: ...

    def take(self, octets: bytes) -> bytes: ...


@dataclass
class Server:
    """An SMTP server. `at` maps a verb, banner, body (said at once after 354) or dot to another answer."""

    at: Mapping[str, Answer] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self._held = b""
        self._in_message = self._mute = False
        self._recipients = 0

    def begin(self) -> bytes:
        return self._say("banner", b"220 peer.test ESMTP\r\n")

    def take(self, octets: bytes) -> bytes:
        """Take octets of the client; return what the server says to that."""
        self._held += octets
        said = b""
        while not self.closed:
            if self._in_message:
                held = b"\r\n" + self._held
                if (end := held.find(b"\r\n.\r\n")) < 0:
                    break
                self.messages.append(held[2 : end + 2])
                self._held, self._in_message = held[end + 5 :], False
                said += self._say("dot", b"250 2.0.0 queued\r\n")
            elif b"\r\n" in self._held:
                line, self._held = self._held.split(b"\r\n", 1)
                said += self._command(line)
            else:
                break
        return said

    def _command(self, line: bytes) -> bytes:
        self.commands.append(line)
        verb = line.split(b" ")[0].split(b":")[0].lower().decode()
        normal = b"250 2.0.0 ok\r\n"
        if verb == "ehlo":
            words = ["peer.test", *self.extensions]
            normal = "".join(f"250{' ' if word is words[-1] else '-'}{word}\r\n" for word in words).encode()
        elif verb == "auth":
            normal = b"235 2.7.0 welcome\r\n"
        elif verb == "mail":
            self._recipients = 0
        elif verb == "data":
            normal = b"354 go on\r\n" if self._recipients else b"554 5.5.1 no valid recipients\r\n"
        elif verb == "quit":
            return self._say("quit", b"221 2.0.0 bye\r\n")
        said = self._say(verb, normal)
        if verb == "rcpt" and said.startswith(b"2"):
            self._recipients += 1
        if verb == "data" and said.startswith(b"354"):
            self._in_message = True
            said += self._say("body", b"")
        return said

    def _say(self, phase: str, normal: bytes) -> bytes:
        if self._mute:
            return b""
        answer = self.at.get(phase, normal)
        if isinstance(answer, Mutes):
            self._mute = True
            return answer.answer
        if isinstance(answer, Closes):
            self.closed = True
            return answer.answer
        return answer


class TlsEnd:
    """The server's end of TLS from the first octet, around another end."""

    def __init__(self, inner: End, context: ssl.SSLContext, *, notifies: bool = True) -> None:
        self.inner, self.closed = inner, False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._notifies = notifies
        self._begun = False

    def begin(self) -> bytes:
        return b""

    def take(self, octets: bytes) -> bytes:
        self._incoming.write(octets)
        try:
            if not self._begun:
                self._object.do_handshake()
                self._begun = True
                self._say(self.inner.begin())
            while True:
                self._say(self.inner.take(self._object.read(65536)))
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # the client does not like the certificate, or has ended TLS
            self.closed = True
        return self._outgoing.read()

    def _say(self, plain: bytes) -> None:
        if plain:
            self._object.write(plain)
        if self.inner.closed:
            self.closed = True
            if self._notifies:
                with contextlib.suppress(ssl.SSLWantReadError):  # the client's close_notify is not waited for
                    self._object.unwrap()


class StartTls:
    """An end that speaks TLS once it has answered STARTTLS in clear, and said `also`."""

    def __init__(self, clear: Server, inner: End, context: ssl.SSLContext, also: bytes = b"") -> None:
        self.clear, self.tls, self._also = clear, TlsEnd(inner, context), also
        self._now: End = clear

    @property
    def closed(self) -> bool:
        return self._now.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._now.closed = closed

    def begin(self) -> bytes:
        self.tls.inner.begin()
        return self.clear.begin()

    def take(self, octets: bytes) -> bytes:
        said = self._now.take(octets)
        if self._now is self.clear and b"STARTTLS" in self.clear.commands and said.startswith(b"2"):
            self._now = self.tls
            self.tls.inner.begin = bytes  # type: ignore[method-assign]  # there is no second banner
            said += self._also
        return said


class TableLink:
    """The client's end of a connection to an `End`."""

    def __init__(self, end: End, cut: Cut = whole) -> None:
        self.server, self._cut = end, cut
        self.segments: deque[bytes] = deque()
        self.sent = b""
        self.closed = ""  # how
        self._hear(end.begin())

    def took(self, octets: bytes) -> None:
        """Pass octets on to the server."""
        self.sent += octets
        self._hear(self.server.take(octets))

    def _hear(self, said: bytes) -> None:
        self.segments += self._cut(said) if said else ()

    def receive_now(self) -> bytes | None:
        assert not self.closed, "used after it was closed"
        if self.segments:
            return self.segments.popleft()
        return b"" if self.server.closed else None

    def addresses(self) -> tuple[str, str]:
        return "192.0.2.1", "192.0.2.2"

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "reset"


#: Looks at an operation, and returns None, or what is thrown or answered instead. False: no room to send at once.
Disturb = Callable[[int, Operation[Any]], "Exception | bytes | bool | None"]


class Table:
    """Runs one coroutine. `disturb` gets each operation and its number. `links` are its connections."""

    def __init__(
        self, end: Callable[[], End], cut: Cut = whole, disturb: Disturb = lambda _number, _operation: None
    ) -> None:
        self._end, self._cut, self._disturb = end, cut, disturb
        self.ends: list[End] = []
        self.links: list[TableLink] = []
        self.operations: list[Operation[Any]] = []

    def run(self, conversation: Conversation[T]) -> T:
        """Run it to its end; return what it returns, or raise what it raises."""
        step: Callable[[Any], Operation[Any]] = conversation.send
        given: Any = None
        while True:
            try:
                operation = step(given)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step, given = conversation.send, self._done(operation)
            except (OSError, SendFailed) as error:
                step, given = conversation.throw, error

    def _done(self, operation: Operation[Any]) -> Any:
        self.operations.append(operation)
        instead = self._disturb(len(self.operations), operation)
        if isinstance(instead, Exception):
            if isinstance(instead, OSError) and isinstance(operation, Send):
                raise operation.failed(instead)
            raise instead
        match operation:
            case Connect():
                self.ends.append(self._end())
                self.links.append(TableLink(self.ends[-1], self._cut))
                return self.links[-1]
            case Receive():
                if instead is not None:
                    return instead
                assert isinstance(operation.link, TableLink)
                if (said := operation.link.receive_now()) is None:
                    raise TimeoutError
                return said
            case Send():
                if instead is False:
                    assert operation.has_given_way
                    return False
                assert isinstance(operation.link, TableLink)
                assert not operation.link.closed
                operation.link.took(bytes(operation.data))
                return True
            case InThread():
                return operation.call()
