"""One connection to the catcher: SMTP by aiosmtpd, with bounds on time and size."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

from aiosmtpd.smtp import SMTP

from mailbbgun.catcher.catcher import Catcher
from mailbbgun.core.net import network_of

#: Bytes of a message, at most. SIZE announces it (RFC 1870).
MAX_SIZE = 35 * 1024 * 1024

#: Bytes of a command, at most. RFC 5321 §4.5.3.1.4 asks for 512; internationalised addresses need
#: more.
MAX_COMMAND = 1000

#: Seconds to wait for the next command, and for the whole of DATA (RFC 5321 §4.5.3.2.7).
IDLE_SECONDS = 300.0

#: Request methods of HTTP. A web page can make a browser send HTTP to any port, and the lines of a
#: form would be SMTP commands. But the browser sends the request line first.
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI")

#: Bytes of a connection that are searched for another protocol: its first line, or less.
OPENING = 2048

#: HTTP, by its request line; TLS, by its first bytes.
NOT_SMTP = re.compile(rb"(?:%b)[ \t\r\n]|[^\r\n]* HTTP/\d|\x16\x03" % "|".join(HTTP_METHODS).encode(), re.IGNORECASE)


class Conversation(SMTP):
    """One connection: aiosmtpd, with a DATA that is bounded even if a line never ends."""

    command_size_limit = MAX_COMMAND

    def __init__(self, catcher: Catcher) -> None:
        super().__init__(
            catcher,
            data_size_limit=MAX_SIZE,
            enable_SMTPUTF8=True,
            ident="Mail BB Gun catcher",
            timeout=IDLE_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        # aiosmtpd's own dictionary is shared by all connections, and grows with each EHLO.
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND)
        self._smtp_methods |= dict.fromkeys(HTTP_METHODS, self._refuse_http)
        self._catcher = catcher
        self._opening: bytes | None = b""  # what has come, until it is known to be SMTP
        self._hung_up = self._has_spoken = self._in_data = False
        self._since = self.loop.time()
        self.network = "unknown"
        #: Whether a message has come as a whole, and its client waits for the reply.
        self.being_kept = False

    @property
    def worth(self) -> tuple[bool, bool, float]:
        """The connection with the least worth is closed first to make room.

        Silent connections have the least, then those that send no message now; among these, the one
        that has been idle for the longest time.
        """
        return self._in_data, self._has_spoken, self._since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        peer = transport.get_extra_info("peername")
        self.network = network_of(peer[0]) if isinstance(peer, tuple) else "unknown"
        super().connection_made(transport)
        self._catcher.welcome(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count the connection no longer."""
        self._catcher.forget(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes. If they are another protocol than SMTP, no line of them is a command."""
        if self._hung_up:
            return
        if self._opening is not None:
            self._opening = (self._opening + data)[:OPENING]
            # A first line this long is no command (RFC 5321 §4.5.3.1.4). It may be HTTP, whose
            # version stands at the end.
            if NOT_SMTP.match(self._opening) or (len(self._opening) == OPENING and b"\n" not in self._opening):
                self._refuse_other_protocol()
                return
            if b"\n" in self._opening:
                self._opening = None
        super().data_received(data)

    async def _refuse_http(self, _arg: str | None) -> None:
        self._refuse_other_protocol()
        # Wait until the connection is closed: the next lines have been read already.
        await self.loop.create_future()

    def _refuse_other_protocol(self) -> None:
        self.hang_up(b"421 4.7.0 This is an SMTP server: no HTTP, no TLS")
        self._catcher.tell("other_protocol", {"client": self.network, "why": "it speaks HTTP or TLS; here is SMTP"})

    def hang_up(self, reply: bytes) -> None:
        """Say why, and close. Bytes that still come are discarded."""
        self._hung_up = True
        talk = cast(asyncio.Transport, self.transport)
        talk.write(reply + b"\r\n")
        talk.close()
        self.loop.call_later(5, talk.abort)  # close() waits for a peer that may never read

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Note that a command came. aiosmtpd calls this for each, and once at the beginning."""
        # At the beginning there is no transport yet.
        self._has_spoken, self._since = self.transport is not None, self.loop.time()
        super()._reset_timeout(duration)

    async def smtp_DATA(self, arg: str) -> None:
        """Receive a message, and reply to it."""
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT first")
        elif arg:
            await self.push("501 5.5.4 Syntax: DATA")
        else:
            with self._receiving():
                await self.push("354 End data with <CR><LF>.<CR><LF>")
                refusal, content = await self._receive()
                self.being_kept = True
                reply = refusal or await self._catcher.keep(self.envelope, content)
                self.envelope = self._create_envelope()
                await self.push(reply)

    @contextlib.contextmanager
    def _receiving(self) -> Iterator[None]:
        self._catcher.receiving += 1
        self._in_data = True
        try:
            yield
        finally:
            self._catcher.receiving -= 1
            self._in_data = self.being_kept = False
            self._since = self.loop.time()

    async def _receive(self) -> tuple[str, bytes]:
        """Read up to the final dot. Return why the message is refused, or "", and the message.

        The message has no dot-stuffing (RFC 5321 §4.5.2).
        """
        lines: list[bytes] = []
        refusal, size, within_line = "", 0, False
        while True:
            try:
                line = await self._reader.readuntil(b"\r\n")
            except asyncio.LimitOverrunError as overrun:
                refusal, within_line = refusal or "500 5.5.2 Line too long", True
                await self._reader.read(overrun.consumed)
                lines.clear()
                continue
            if within_line:
                within_line = False  # this was the end of a line that is too long
            elif line == b".\r\n":
                return refusal, b"".join(lines)
            elif not refusal:
                size += len(line)
                refusal = self._too_long(size, line)
                lines.append(line[1:] if line.startswith(b".") else line)
                if refusal:
                    lines.clear()

    def _too_long(self, size: int, line: bytes) -> str:
        """Return why a message of ``size`` bytes with this line is refused; "" if it is not."""
        if size > MAX_SIZE:
            return "552 5.3.4 Message too big"
        return "500 5.5.2 Line too long" if len(line) > self.line_length_limit else ""

    def _timeout_cb(self) -> None:
        self.hang_up(b"421 4.4.2 Too slow")
