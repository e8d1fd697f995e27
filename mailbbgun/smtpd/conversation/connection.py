"""One connection: bytes in, lines and messages to its session, replies out; with TLS and bounds."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, cast

from mailbbgun.core.net import is_loopback, network_of
from mailbbgun.smtpd.conversation.data import MessageReader
from mailbbgun.smtpd.conversation.session import BYE, GO_AHEAD, READY_FOR_TLS, Answer, DoorPort, SmtpSession
from mailbbgun.smtpd.parts import DoorParts, DoorPeer

#: Octets of a command, at most. RFC 5321 §4.5.3.1.4 asks for 512; international addresses and AUTH need more.
MAX_COMMAND = 2048
#: Octets that a client may send before its earlier commands are answered.
AHEAD = 65_536
#: Octets of a message that are not counted among those of all clients.
FREE = 16_384
#: Seconds: for the next command, for the next part of a message, for the whole of it (RFC 5321 §4.5.3.2.7,
#: §4.5.3.2.5), for the handshake of TLS, and for a client to close after we have.
COMMAND_SECONDS, BLOCK_SECONDS, DATA_SECONDS, TLS_SECONDS, CLOSE_SECONDS = 300.0, 180.0, 3600.0, 30.0, 5.0
#: Errors after which each next one is answered late, by how many seconds, and after which the client has to go.
FREE_ERRORS, LATE_SECONDS, MOST_ERRORS = 5, 1.0, 20
#: Commands without a message, beside one for each recipient, and messages of a connection, at most.
MOST_COMMANDS, MOST_MESSAGES = 200, 10_000

STOPPING = "421 4.3.2 This server is stopping: try again"

log = logging.getLogger("mailbbgun.smtpd")


class DoorConnection(asyncio.Protocol):
    """A client of the door."""

    def __init__(self, parts: DoorParts, port: DoorPort) -> None:
        self._parts, self._port = parts, port
        self._loop = asyncio.get_running_loop()
        self.deadline = self._loop.time() + COMMAND_SECONDS
        self.network = "unknown"
        self._buffer = bytearray()
        self._out = bytearray()
        self._reader: MessageReader | None = None
        self._data_until = 0.0
        self._held = 0  # octets of the message that are counted among those of all clients
        self._room = True
        self._task: asyncio.Task[None] | None = None  # kept here, or it might be collected
        self._abort: asyncio.TimerHandle | None = None
        self._busy = self._gone = self._skipping = self._stopping = self._reads_not = False
        self._handshaking = False
        self._errors = self._commands = 0

    @property
    def worth(self) -> tuple[bool, bool, float] | None:
        """Silent clients have the least, then those without a login; among these, the most idle one."""
        if self._busy or self._reader is not None:
            return None
        return self._session.login is not None, bool(self._session.peer.helo), self.deadline

    @property
    def taking(self) -> bool:
        """Whether a message is on its way, or is being stored."""
        return self._busy or self._reader is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client, if there is room for it."""
        # With TLS, `_transport` is that of TLS. To stop reading, the socket's is paused: while TLS itself is
        # paused, asyncio tells nobody that the client has gone, and complains of each reply instead.
        self._transport = self._socket = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.network = network_of(address)
        self._session = SmtpSession(self._parts, self._port, DoorPeer(address, self.network, is_loopback(address)))
        refused = self._parts.registry.welcome(self, counts_minute=self._port is DoorPort.MX)
        if refused:
            self.hang_up(refused)
        elif self._port is DoorPort.TLS:
            self._socket.pause_reading()
            self._begin(self._start_tls(greets=True))
        else:
            self._say(self._session.greeting)
            self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the client. A message that came as a whole is stored all the same."""
        del error
        self._forget()
        # What waits in the loop keeps the buffers of TLS, half a megabyte for each connection.
        if self._abort is not None:
            self._abort.cancel()

    def eof_received(self) -> None:
        """Answer no more: the client has closed. The transport closes itself once it has sent what it was given."""
        self._forget()
        self._abort_soon()

    def _forget(self) -> None:
        self._gone = True
        self._parts.registry.forget(self)
        self._buffer.clear()
        if self._reader is not None:
            self._reader = None
            self._release()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if not self._gone:
            self._buffer += data
            self._work()

    def pause_writing(self) -> None:
        """Answer no more until the client has read what it was answered."""
        self._reads_not = True

    def resume_writing(self) -> None:
        """Go on."""
        self._reads_not = False
        if not self._gone:
            self._work()

    def stop(self) -> None:
        """Close the connection as soon as no message is on its way."""
        self._stopping = True
        if not self.taking:
            self.hang_up(STOPPING)

    def hang_up(self, reply: str) -> None:
        """Say why, and close. Bytes that still come are discarded."""
        if not self._gone:
            self._say(reply)
            self._flush()
            self._gone = True
        self._parts.registry.forget(self)
        if not self._handshaking:
            self._socket.resume_reading()  # or the client's farewell in TLS would not be heard
        self._transport.close()
        self._abort_soon()

    def _abort_soon(self) -> None:
        """Let a peer that does not read what it was answered not keep the connection."""
        if self._abort is None:
            self._abort = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)

    def _work(self) -> None:
        """Work on what has come, and send the replies together."""
        while self._buffer and not (self._busy or self._gone or self._reads_not):
            if self._reader is not None:
                self._read_message(self._reader)
            elif not self._read_line():
                break
        if self._gone or self._handshaking:  # then the transport is being replaced; this one must not be paused
            return
        self._flush()
        if len(self._buffer) > AHEAD:
            self._socket.pause_reading()
        else:
            self._socket.resume_reading()

    def _read_line(self) -> bool:
        """Answer the next line. Return False if it has not come as a whole."""
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_COMMAND:
                self._skipping = True
                self._buffer.clear()
            return False
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self.deadline = self._loop.time() + COMMAND_SECONDS
        too_long, self._skipping = self._skipping or len(line) > MAX_COMMAND, False
        self._commands += 1
        if self._commands > MOST_COMMANDS + self._parts.settings.MAX_RECIPIENTS:
            self.hang_up("421 4.7.0 Too many commands without a message")
        elif too_long:
            self._reply("500 5.5.2 The line is too long")
        elif not line.endswith(b"\r\n"):
            self._reply("500 5.5.2 Lines end in CR LF")
        else:
            self._answer(self._session.line(line[:-2]))
        return True

    def _read_message(self, reader: MessageReader) -> None:
        self.deadline = min(self._loop.time() + BLOCK_SECONDS, self._data_until)
        chunk, self._buffer = self._buffer, bytearray()
        rest = reader.feed(chunk)
        more = max(reader.kept - FREE, 0) - self._held
        if self._room and not self._parts.registry.hold(more):
            self._room = False
            self._release()
        elif self._room:
            self._held += more
        if rest is None:
            if not self._room:
                reader.discard()
            return
        self._reader, self._buffer, self._commands = None, bytearray(rest), 0
        answer = self._session.message(reader.content() if self._room else b"", room=self._room)
        if isinstance(answer, str):
            self._release()
        self._answer(answer)

    def _release(self) -> None:
        self._parts.registry.release(self._held)
        self._held = 0

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, str):
            self._reply(answer)
        else:
            self._begin(self._reply_later(answer))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on something that waits; the client's next lines wait for it."""
        self._busy, self.deadline = True, float("inf")
        self._task = self._loop.create_task(work)

    async def _reply_later(self, answer: Coroutine[Any, Any, str]) -> None:
        try:
            reply = await answer
        except Exception:  # a bug of ours: the client tries again, and the door goes on
            log.exception("unexpected")
            reply = "451 4.3.0 Internal error"
        self._release()
        self._go_on()
        if not self._gone:
            self._reply(reply)
            self._work()

    def _go_on(self) -> None:
        self._busy, self._task, self.deadline = False, None, self._loop.time() + COMMAND_SECONDS

    def _reply(self, reply: str) -> None:
        """Reply, and do what follows from it."""
        if reply == GO_AHEAD:
            self._reader, self._room = MessageReader(self._parts.most_octets), True
            self.deadline = self._loop.time() + BLOCK_SECONDS
            self._data_until = self._loop.time() + DATA_SECONDS
            self._say(reply)
            return
        if self._stopping:
            self._say(reply)
            self.hang_up(STOPPING)
        elif reply == READY_FOR_TLS:
            self._hand_over_to_tls()
        elif reply == BYE or reply.startswith("421"):
            self.hang_up(reply)
        elif self._session.taken >= MOST_MESSAGES:
            self._say(reply)
            self.hang_up("421 4.7.0 Too many messages on one connection")
        elif self._is_fault(reply):
            self._reply_to_fault(reply)
        else:
            self._say(reply)

    def _is_fault(self, reply: str) -> bool:
        """Say whether a reply is about an error to count: of clients that we know, only those of the protocol."""
        return reply.startswith("50" if self._session.login is not None else "5")

    def _reply_to_fault(self, reply: str) -> None:
        self._errors += 1
        if self._errors >= MOST_ERRORS:
            self._say(reply)
            self.hang_up("421 4.7.0 Too many errors")
        elif self._errors > FREE_ERRORS:
            self._begin(self._reply_late(reply))
        else:
            self._say(reply)

    async def _reply_late(self, reply: str) -> None:
        self._flush()
        await asyncio.sleep(LATE_SECONDS)
        self._go_on()
        if not self._gone:
            self._say(reply)
            if self._stopping:
                self.hang_up(STOPPING)
            else:
                self._work()

    def _say(self, reply: str) -> None:
        self._out += reply.encode() + b"\r\n"

    def _flush(self) -> None:
        if self._out:
            self._transport.write(bytes(self._out))
            self._out.clear()

    def _hand_over_to_tls(self) -> None:
        if self._buffer:
            # Commands that somebody on the way put behind STARTTLS must not count after it (CVE-2011-0411).
            told = {"client": self.network, "why": "there was more behind STARTTLS"}
            self._parts.refusals.tell("injection", self.network, told, event="connection_refused")
            self.hang_up("554 5.5.0 There was more behind STARTTLS")
            return
        self._say(READY_FOR_TLS)
        self._flush()
        self._socket.pause_reading()
        self._begin(self._start_tls(greets=False))

    async def _start_tls(self, *, greets: bool) -> None:
        self._handshaking = True
        certificate = self._parts.certificate
        assert certificate is not None  # without one, STARTTLS is not offered
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                certificate.context,
                server_side=True,
                ssl_handshake_timeout=TLS_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError as error:  # also ssl.SSLError, and the time limits
            told = {"client": self.network, "why": str(error) or type(error).__name__}
            self._parts.refusals.tell("tls", self.network, told, event="connection_refused")
            # The frames of the traceback refer to the error: without this, the buffers of TLS would wait for
            # the garbage collector.
            error.__traceback__ = None
            self._transport.abort()
            self.connection_lost(None)
            return
        if transport is None or self._gone:
            self._transport.abort()
            self.connection_lost(None)
            return
        self._transport, self._handshaking = transport, False
        self._session.secured()
        self._go_on()
        if greets:
            self._say(self._session.greeting)
        if self._stopping:
            self.hang_up(STOPPING)
        else:
            self._work()
