"""One TCP or TLS connection under absolute deadlines: a peer that drips cannot stretch them (RFC
5321 §4.5.3.2).

Deadlines are points of `time.monotonic()`. The socket is non-blocking throughout; waiting is done
by poll(2).
"""

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from mailbbgun.core.net import LookUp
from mailbbgun.smtp.outcome import Deferred, Phase, retry_after
from mailbbgun.smtp.reply import ProtocolError, Reply, ReplyBuffer, safe, understood

#: Octets offered to the kernel at once.
CHUNK = 64 * 1024


class WireError(Exception):
    """The connection is of no further use.

    `phase` says where, `reply` why, `handed` whether the write that failed may have left this
    process.
    """

    def __init__(self, phase: Phase, reply: Reply, handed: bool = False) -> None:
        super().__init__(f"{phase}: {reply}")
        self.phase = phase
        self.reply = reply
        self.handed = handed

    @property
    def outcome(self) -> Deferred:
        """What this means for mail whose final dot was not sent."""
        return Deferred(self.reply, self.phase, retry_after(self.reply.text))


class TimedOut(WireError):
    """The phase's deadline passed."""


class Dropped(WireError):
    """Not connected, closed or reset."""


class Garbled(WireError):
    """The server does not speak SMTP as it must, or says more than the bounds of `reply` allow."""


class Closing(WireError):
    """A 421: the server ends the session, whatever was asked (RFC 5321 §3.8)."""


class TlsFailed(WireError):
    """No TLS with this server: handshake or certificate."""


#: Told of each thing that happened, in order: where, what was said (None: it went well without a
#: word, as connecting and TLS do), and on which wire (None: on one that is gone). What it raises
#: ends the session.
Trace = Callable[[Phase, Reply | None, "Wire | None"], None]


class Wire:
    """A socket connected to `ip`, from which replies are read and to which commands are written.

    Not thread-safe.

    `trace` is told of every reply and of TLS; `mechanism` is how AUTH is tried just then. No wait
    goes on beyond `until`, whatever the deadline of its phase.
    """

    __slots__ = ("_buffer", "_readable", "_socket", "_writable", "ip", "mechanism", "tls", "trace", "until")

    def __init__(self, connected: socket.socket, ip: str) -> None:
        connected.setblocking(False)
        # The final dot is a small write of its own; Nagle would hold it back for the ACK of the
        # body.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ip = ip
        self._socket = connected
        self._buffer = ReplyBuffer()
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(connected, select.POLLIN)
        self._writable.register(connected, select.POLLOUT)
        self.tls = False
        self.mechanism = ""
        self.trace: Trace | None = None
        self.until = inf

    def read_reply(self, phase: Phase, deadline: float) -> Reply:
        """The next reply. Raises Closing for a 421, else TimedOut, Dropped or Garbled."""
        return self.read_lines(phase, deadline)[0]

    def read_lines(self, phase: Phase, deadline: float) -> tuple[Reply, list[bytes]]:
        """Like `read_reply`, with the raw lines, which EHLO needs."""
        try:
            while (taken := self._buffer.take()) is None:
                self._receive(phase, deadline)
        except ProtocolError as error:
            raise Garbled(phase, Reply(0, "4.5.0", str(error))) from error
        reply = understood(*taken)
        if self.trace is not None:
            self.trace(phase, reply, self)
        if reply.code == 421:
            raise Closing(phase, reply)
        return reply, taken[1]

    def write(self, data: bytes, phase: Phase, deadline: float) -> None:
        """Hands all of `data` to the kernel.

        Raises TimedOut or Dropped, `handed` if any of it may be on its way.
        """
        view, sent, handed = memoryview(data), 0, False
        while sent < len(data):
            try:
                sent += self._socket.send(view[sent : sent + CHUNK])
                handed = True
            except (BlockingIOError, ssl.SSLWantWriteError):
                handed = handed or self.tls  # a TLS record may be half written
                self._wait(self._writable, phase, deadline, handed)
            except ssl.SSLWantReadError:
                self._wait(self._readable, phase, deadline, handed)
            except OSError as error:
                raise Dropped(phase, Reply(0, "4.4.2", _why(error)), handed or self.tls) from error
            if sent < len(data) and monotonic() >= min(deadline, self.until):
                raise TimedOut(phase, Reply(0, "4.4.2", "timed out while sending"), handed)

    def unasked(self, phase: Phase) -> bool:
        """Whether the server spoke although nothing was asked.

        Does not wait. Raises Dropped if it hung up.
        """
        if not self._buffer.empty:
            return True
        if not self.tls and not self._readable.poll(0):
            return False
        try:
            self._fill(phase)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # TLS 1.3 session tickets end here too: they are not speech
        return True

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Turns the connection into TLS.

        Raises TlsFailed (also if plain text is waiting), Dropped, TimedOut.
        """
        if not self._buffer.empty:
            # Words said in clear must not be taken for the encrypted server's (CVE-2011-0411 and
            # its kin).
            raise TlsFailed(Phase.STARTTLS, Reply(0, "4.7.5", "the server sent plain text ahead of the TLS handshake"))
        try:
            self._socket.getpeername()  # raises if reset meanwhile: wrap_socket would too, and forget to close
            tls = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            raise Dropped(Phase.TLS, Reply(0, "4.4.2", _why(error))) from error
        self._socket, self.tls = tls, True
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(self._readable, Phase.TLS, deadline)
            except ssl.SSLWantWriteError:
                self._wait(self._writable, Phase.TLS, deadline)
            except (ssl.SSLEOFError, ConnectionError) as error:
                raise Dropped(Phase.TLS, Reply(0, "4.4.2", _why(error))) from error
            except OSError as error:
                raise TlsFailed(Phase.TLS, Reply(0, "4.7.5", f"TLS failed: {_why(error)}")) from error
        if self.trace is not None:
            self.trace(Phase.TLS, None, self)

    def secured(self) -> tuple[str, str, bytes]:
        """The protocol version, the cipher and the server's certificate (DER), checked or not.

        Only once TLS stands.
        """
        assert isinstance(self._socket, ssl.SSLSocket)
        cipher = self._socket.cipher()
        return (
            self._socket.version() or "",
            cipher[0] if cipher else "",
            self._socket.getpeercert(binary_form=True) or b"",
        )

    def ends(self) -> tuple[str, str]:
        """The IP addresses that the kernel says are at the other end and at ours.

        Raises Dropped if reset meanwhile.
        """
        try:
            return self._socket.getpeername()[0], self._socket.getsockname()[0]
        except OSError as error:
            raise Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{self.ip}: {_why(error)}")) from error

    def close(self) -> None:
        """Closes the connection; what was written is still sent."""
        self._socket.close()

    def abort(self) -> None:
        """Resets the connection: what the kernel still holds is thrown away, the server sees no
        orderly end.
        """
        with contextlib.suppress(OSError):  # already gone: all the better
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self, phase: Phase, deadline: float) -> None:
        # In clear it is cheaper to ask poll first; TLS may hold octets that poll does not see.
        waits = None if self.tls else self._readable
        while True:
            if waits is not None:
                self._wait(waits, phase, deadline)
            try:
                return self._fill(phase)
            except (BlockingIOError, ssl.SSLWantReadError):
                waits = self._readable
            except ssl.SSLWantWriteError:
                waits = self._writable

    def _fill(self, phase: Phase) -> None:
        try:
            count = self._socket.recv_into(self._buffer.space())
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            raise Dropped(phase, Reply(0, "4.4.2", _why(error))) from error
        if not count:
            raise Dropped(phase, Reply(0, "4.4.2", "the server closed the connection"))
        self._buffer.received(count)

    def _wait(self, poll: select.poll, phase: Phase, deadline: float, handed: bool = False) -> None:
        remaining = min(deadline, self.until) - monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise TimedOut(phase, Reply(0, "4.4.2", "timed out waiting for the server"), handed)


def dial(addresses: Sequence[str], port: int, deadline: float) -> Wire:
    """Connects to the first of `addresses` (IP addresses) that answers, each having an equal share
    of the time left.

    Raises TimedOut or Dropped with what the last one did.
    """
    failure = WireError(Phase.CONNECT, Reply(0, "4.4.1", "no address to connect to"))
    for position, address in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - position)
        try:
            return _wired(socket.create_connection((address, port), timeout=max(share, 0.001)), address)
        except TimeoutError:
            failure = TimedOut(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: timed out"))
        except OSError as error:
            failure = Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: {_why(error)}"))
    raise failure


def resolve(host: str, port: int, look_up: LookUp) -> Sequence[str]:
    """The IP addresses of `host` by what looks them up.

    Raises Dropped (phase dns), and what else `look_up` raises.
    """
    try:
        return look_up(host, port)
    except (OSError, UnicodeError) as error:
        raise Dropped(Phase.DNS, Reply(0, "4.4.3", f"{safe(host)}: {_why(error)}")) from error


def _wired(connected: socket.socket, ip: str) -> Wire:
    try:
        return Wire(connected, ip)
    except OSError:  # reset at once
        connected.close()
        raise


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    return safe((getattr(error, "strerror", None) or str(error) or type(error).__name__).lower())
