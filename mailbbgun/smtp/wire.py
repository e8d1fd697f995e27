"""Replies in and commands out, over TCP or TLS, under absolute deadlines (RFC 5321 §4.5.3.2).

It holds no socket: octets move by `operations`, and TLS runs in memory. A server that sends one
byte now and then cannot extend a deadline. Deadlines are points of `time.monotonic()`.
"""

import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from mailbbgun.core.net import LookUp
from mailbbgun.drivers.operations import Connect, InThread, Receive, Send, SendFailed, TcpLink
from mailbbgun.drivers.tls import Tls
from mailbbgun.smtp.outcome import Deferred, Phase, retry_after
from mailbbgun.smtp.reply import ProtocolError, Reply, ReplyBuffer, parse_reply, safe

#: Octets that are encrypted, and handed to the kernel, at once.
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
    """A connection to `ip`: replies are read from it and commands are written to it.

    Used by one coroutine at a time. `trace` is called for every reply and for TLS; `mechanism` is
    the AUTH mechanism being tried. No wait goes on beyond `until`, whatever the deadline of its
    phase.
    """

    __slots__ = ("_buffer", "_link", "_tls", "ip", "mechanism", "trace", "until")

    def __init__(self, link: TcpLink, ip: str) -> None:
        self.ip = ip
        self._link = link
        self._buffer = ReplyBuffer()
        self._tls: Tls | None = None
        self.mechanism = ""
        self.trace: Trace | None = None
        self.until = inf

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._tls is not None

    async def read_reply(self, phase: Phase, deadline: float) -> Reply:
        """Return the next reply. Raises Closing for a 421, else TimedOut, Dropped or Garbled."""
        try:
            while (reply := self._buffer.next()) is None:
                await self._receive(phase, deadline)
        except ProtocolError as error:
            raise Garbled(phase, Reply(0, "4.5.0", str(error))) from error
        return self._told(phase, reply)

    async def read_lines(self, phase: Phase, deadline: float) -> tuple[Reply, list[bytes]]:
        """Return the next reply and its raw lines, which EHLO needs. Raises like `read_reply`."""
        try:
            while (taken := self._buffer.take()) is None:
                await self._receive(phase, deadline)
        except ProtocolError as error:
            raise Garbled(phase, Reply(0, "4.5.0", str(error))) from error
        return self._told(phase, parse_reply(*taken)), taken[1]

    def _told(self, phase: Phase, reply: Reply) -> Reply:
        if self.trace is not None:
            self.trace(phase, reply, self)
        if reply.code == 421:
            raise Closing(phase, reply)
        return reply

    async def write(self, data: bytes, phase: Phase, deadline: float, block: float = inf) -> None:
        """Hand all of `data` to the kernel, each block of it (`CHUNK` octets) within `block` seconds.

        Raises TimedOut or Dropped, with `handed` set if any of it may have reached the kernel.
        """
        view, handed = memoryview(data), False
        for start in range(0, len(data), CHUNK):
            octets: bytes | memoryview = data if len(data) <= CHUNK else view[start : start + CHUNK]
            until = min(deadline, monotonic() + block)
            if self._tls is not None:
                octets = await self._encrypted(self._tls, octets, phase, until, handed)
            await self._send(octets, phase, until, handed)
            handed = True

    async def write_unless_server_spoke(self, data: bytes, phase: Phase, deadline: float) -> bool:
        """Hand over a few octets unless the server speaks first; return whether they were handed over.

        Raises like `write`. If the kernel has no room, it waits for room, and looks again whether the
        server spoke.
        """
        if self.has_unasked_reply(phase):
            return False
        if self._tls is not None:
            data = await self._encrypted(self._tls, data, phase, deadline, False)
        while not await self._send(data, phase, deadline, at_once=True):
            if self.has_unasked_reply(phase):
                return False
        return True

    def has_unasked_reply(self, phase: Phase) -> bool:
        """Return whether the server said something although no command is open.

        Does not wait. Raises Dropped if the server closed the connection.
        """
        if not self._buffer.empty:
            return True
        try:
            data = self._link.receive_now()
            if self._tls is not None:
                # A TLS 1.3 session ticket ends here too: it carries no text.
                data = self._tls.decrypted(data)
        except OSError as error:
            raise Dropped(phase, Reply(0, "4.4.2", _why(error))) from error
        if data is None:
            return False
        self._received(data, phase)
        return True

    async def start_tls(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Do the TLS handshake.

        Raises TlsFailed (also if plain text is waiting to be read), Dropped or TimedOut.
        """
        if not self._buffer.empty:
            # Text sent before TLS must not be taken for a reply of the encrypted server
            # (CVE-2011-0411).
            raise TlsFailed(Phase.STARTTLS, Reply(0, "4.7.5", "the server sent plain text ahead of the TLS handshake"))
        try:
            tls = Tls(context, host)
        except ValueError as error:  # no name that a certificate can be checked for
            raise Dropped(Phase.TLS, Reply(0, "4.4.2", _why(error))) from error
        while True:
            try:
                done = tls.shake_hands()
            except OSError as error:
                with contextlib.suppress(WireError):  # it only says why; the server may be gone
                    await self._send(tls.to_send(), Phase.TLS, deadline)
                raise TlsFailed(Phase.TLS, Reply(0, "4.7.5", f"TLS failed: {_why(error)}")) from error
            if waiting := tls.to_send():
                await self._send(waiting, Phase.TLS, deadline)
            if done:
                break
            if not (data := await self._octets(Phase.TLS, deadline)):
                raise Dropped(Phase.TLS, Reply(0, "4.4.2", "the server closed the connection"))
            tls.feed(data)
        self._tls = tls
        if self.trace is not None:
            self.trace(Phase.TLS, None, self)

    def tls_details(self) -> tuple[str, str, bytes]:
        """Return the protocol version, the cipher and the server's certificate (DER).

        The certificate may be unchecked. Call it only after the TLS handshake.
        """
        assert self._tls is not None
        return self._tls.details()

    def peer_and_own_address(self) -> tuple[str, str]:
        """Return the IP addresses of the server and of this end, as the kernel knows them.

        Raises Dropped if the connection was reset.
        """
        try:
            return self._link.addresses()
        except OSError as error:
            raise Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{self.ip}: {_why(error)}")) from error

    def close(self) -> None:
        """Close the connection; the kernel still sends what was written."""
        self._link.close()

    def abort(self) -> None:
        """Reset the connection: the kernel discards what it has not sent yet."""
        self._link.abort()

    async def _receive(self, phase: Phase, deadline: float) -> None:
        if self._tls is None:
            return self._received(await self._octets(phase, deadline), phase)
        encrypted: bytes | None = None
        while True:
            try:
                data = self._tls.decrypted(encrypted)
            except OSError as error:
                raise Dropped(phase, Reply(0, "4.4.2", _why(error))) from error
            if waiting := self._tls.to_send():  # the answer to a new key of the server (RFC 8446 §4.6.3)
                await self._send(waiting, phase, deadline)
            if data is not None:
                return self._received(data, phase)
            encrypted = await self._octets(phase, deadline)

    def _received(self, data: bytes, phase: Phase) -> None:
        if not data:
            raise Dropped(phase, Reply(0, "4.4.2", "the server closed the connection"))
        self._buffer.add(data)

    async def _octets(self, phase: Phase, deadline: float) -> bytes:
        try:
            return await Receive(self._link, min(deadline, self.until))
        except TimeoutError as error:
            raise TimedOut(phase, Reply(0, "4.4.2", "timed out waiting for the server")) from error
        except OSError as error:
            raise Dropped(phase, Reply(0, "4.4.2", _why(error))) from error

    async def _send(
        self, data: bytes | memoryview, phase: Phase, deadline: float, handed: bool = False, at_once: bool = False
    ) -> bool:
        try:
            return await Send(self._link, data, min(deadline, self.until), at_once=at_once)
        except SendFailed as failed:
            raise _unsent(failed, phase, handed) from failed

    async def _encrypted(
        self, tls: Tls, data: bytes | memoryview, phase: Phase, deadline: float, handed: bool
    ) -> bytes:
        try:
            while (encrypted := tls.encrypted(data)) is None:
                await self._send(tls.to_send(), phase, deadline)
                tls.feed(await self._octets(phase, deadline))
        except OSError as error:  # the server ended TLS
            raise Dropped(phase, Reply(0, "4.4.2", _why(error)), handed) from error
        return encrypted


def _unsent(failed: SendFailed, phase: Phase, handed: bool) -> WireError:
    handed = handed or failed.handed
    if isinstance(failed.error, TimeoutError):
        return TimedOut(phase, Reply(0, "4.4.2", "timed out while sending"), handed)
    return Dropped(phase, Reply(0, "4.4.2", _why(failed.error)), handed)


async def dial(addresses: Sequence[str], port: int, deadline: float) -> Wire:
    """Connect to the first of `addresses` (IP addresses) that answers.

    Each address gets an equal share of the time left. Raises TimedOut or Dropped, as the last
    address failed.
    """
    failure = WireError(Phase.CONNECT, Reply(0, "4.4.1", "no address to connect to"))
    for position, address in enumerate(addresses):
        now = monotonic()
        share = (deadline - now) / (len(addresses) - position)
        try:
            return Wire(await Connect(address, port, now + max(share, 0.001)), address)
        except TimeoutError:
            failure = TimedOut(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: timed out"))
        except OSError as error:
            failure = Dropped(Phase.CONNECT, Reply(0, "4.4.1", f"{address} port {port}: {_why(error)}"))
    raise failure


async def resolve(host: str, port: int, look_up: LookUp, deadline: float) -> Sequence[str]:
    """Return the IP addresses of `host` that `look_up` finds.

    Raises Dropped (phase dns) if it finds none, TimedOut, and whatever else `look_up` raises.
    """
    try:
        if _is_address(host):  # nobody needs to be asked, so nothing waits
            return look_up(host, port)
        return await InThread(lambda: look_up(host, port), deadline)
    except TimeoutError:
        raise TimedOut(Phase.DNS, Reply(0, "4.4.3", "timed out waiting for the name servers")) from None
    except (OSError, UnicodeError) as error:
        raise Dropped(Phase.DNS, Reply(0, "4.4.3", f"{safe(host)}: {_why(error)}")) from error


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    return safe((getattr(error, "strerror", None) or str(error) or type(error).__name__).lower())
