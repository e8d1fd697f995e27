"""One TCP or TLS connection under absolute deadlines (RFC 5321 §4.5.3.2).

A server that sends one byte now and then cannot extend a deadline. Deadlines are points of
`time.monotonic()`. The socket is non-blocking throughout; the code waits by poll(2).
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
from mailbbgun.smtp.reply import ProtocolError, Reply, ReplyBuffer, parse_reply, safe

#: Octets offered to the kernel at once.
CHUNK = 64 * 1024


class WireError(Exception):
    """The connection can no longer be used.

    `phase` says where it failed and `reply` why. `handed` says whether some of the failed write may
    have reached the kernel.
    """

    def __init__(self, phase: Phase, reply: Reply, handed: bool = False) -> None:
        super().__init__(f"{phase}: {reply}")
        self.phase = phase
        self.reply = reply
        self.handed = handed

    @property
    def outcome(self) -> Deferred:
        """The outcome for mail whose final dot was not sent."""
        return Deferred(self.reply, self.phase, retry_after(self.reply.text))


class TimedOut(WireError):
    """The phase's deadline passed."""


class Dropped(WireError):
    """The connection could not be made, was closed or was reset."""


class Garbled(WireError):
    """The server breaks the SMTP protocol, or says more than the bounds of `reply` allow."""


class Closing(WireError):
    """The server ends the session with a 421, which it may do at any command (RFC 5321 §3.8)."""


class TlsFailed(WireError):
    """The TLS handshake failed, or the certificate was not accepted."""


#: Called for each step of a session, in order, with its phase, the reply and the wire. The reply is
#: None for a step without one (connect, TLS handshake). The wire is None if the connection is gone.
#: An exception raised by it ends the session.
Trace = Callable[[Phase, Reply | None, "Wire | None"], None]


class Wire:
    """A socket connected to `ip`: replies are read from it and commands are written to it.

    Not thread-safe. `trace` is called for every reply and for TLS; `mechanism` is the AUTH
    mechanism being tried. No wait goes on beyond `until`, whatever the deadline of its phase.
    """

    __slots__ = ("_buffer", "_readable", "_socket", "_writable", "ip", "mechanism", "tls", "trace", "until")

    def __init__(self, connected: socket.socket, ip: str) -> None:
        connected.setblocking(False)
        # The final dot is a small write of its own. Nagle's algorithm would hold it back until the
        # message is acknowledged.
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
        """Return the next reply. Raises Closing for a 421, else TimedOut, Dropped or Garbled."""
        return self.read_lines(phase, deadline)[0]

    def read_lines(self, phase: Phase, deadline: float) -> tuple[Reply, list[bytes]]:
        """Return the next reply and its raw lines, which EHLO needs. Raises like `read_reply`."""
        try:
            while (taken := self._buffer.take()) is None:
                self._receive(phase, deadline)
        except ProtocolError as error:
            raise Garbled(phase, Reply(0, "4.5.0", str(error))) from error
        reply = parse_reply(*taken)
        if self.trace is not None:
            self.trace(phase, reply, self)
        if reply.code == 421:
            raise Closing(phase, reply)
        return reply, taken[1]

    def write(self, data: bytes, phase: Phase, deadline: float) -> None:
        """Hand all of `data` to the kernel.

        Raises TimedOut or Dropped, with `handed` set if any of it may have reached the kernel.
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

    def has_unasked_reply(self, phase: Phase) -> bool:
        """Return whether the server said something although no command is open.

        Does not wait. Raises Dropped if the server closed the connection.
        """
        if not self._buffer.empty:
            return True
        if not self.tls and not self._readable.poll(0):
            return False
        try:
            self._fill(phase)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # a TLS 1.3 session ticket ends here too: it carries no text
        return True

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Do the TLS handshake.

        Raises TlsFailed (also if plain text is waiting to be read), Dropped or TimedOut.
        """
        if not self._buffer.empty:
            # Text sent before TLS must not be taken for a reply of the encrypted server
            # (CVE-2011-0411).
            raise TlsFailed(Phase.STARTTLS, Reply(0, "4.7.5", "the server sent plain text ahead of the TLS handshake"))
        try:
            # Raises if the connection was reset. wrap_socket would raise too, but not close it.
            self._socket.getpeername()
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

    def tls_details(self) -> tuple[str, str, bytes]:
        """Return the protocol version, the cipher and the server's certificate (DER).

        The certificate may be unchecked. Call it only after the TLS handshake.
        """
        assert isinstance(self._socket, ssl.SSLSocket)
        cipher = self._socket.cipher()
        return (
            self._socket.version() or "",
            cipher[0] if cipher else "",
            self._socket.getpeercert(binary_form=True) or b"",
        )

    def peer_and_own_address(self) -> tuple[str, str]:
        """Return the IP addresses of the server and of this end, as the kernel knows them.

        Raises Dropped if the connection was reset.
        """
        try:
            return self._socket.getpeername()[0], self._socket.getsockname()[0]
        except OSError as error:
            raise Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{self.ip}: {_why(error)}")) from error

    def close(self) -> None:
        """Close the connection; the kernel still sends what was written."""
        self._socket.close()

    def abort(self) -> None:
        """Reset the connection: the kernel discards what it has not sent yet."""
        with contextlib.suppress(OSError):  # the connection is gone already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self, phase: Phase, deadline: float) -> None:
        # Without TLS it is cheaper to poll first. TLS may hold octets that poll does not see.
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
    """Connect to the first of `addresses` (IP addresses) that answers.

    Each address gets an equal share of the time left. Raises TimedOut or Dropped, as the last
    address failed.
    """
    failure = WireError(Phase.CONNECT, Reply(0, "4.4.1", "no address to connect to"))
    for position, address in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - position)
        try:
            return _wire_on(socket.create_connection((address, port), timeout=max(share, 0.001)), address)
        except TimeoutError:
            failure = TimedOut(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: timed out"))
        except OSError as error:
            failure = Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: {_why(error)}"))
    raise failure


def resolve(host: str, port: int, look_up: LookUp) -> Sequence[str]:
    """Return the IP addresses of `host` that `look_up` finds.

    Raises Dropped (phase dns) if it finds none, and whatever else `look_up` raises.
    """
    try:
        return look_up(host, port)
    except (OSError, UnicodeError) as error:
        raise Dropped(Phase.DNS, Reply(0, "4.4.3", f"{safe(host)}: {_why(error)}")) from error


def _wire_on(connected: socket.socket, ip: str) -> Wire:
    try:
        return Wire(connected, ip)
    except OSError:  # reset at once
        connected.close()
        raise


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    return safe((getattr(error, "strerror", None) or str(error) or type(error).__name__).lower())
