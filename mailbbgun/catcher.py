"""The built-in mail catcher: an SMTP server that keeps what it gets in the Maildir ``VAR/mail``, so that nobody mails the world by accident.

In: SMTP on ``CATCHER_HOST:CATCHER_PORT``. Out: one file a message, as sent but with LF line ends and, on top, ``X-Envelope-From:``
and one ``X-Envelope-To:`` a recipient; one log line. Recipients of the domain ``simulator`` behave as ``messages/simulator.py`` says.
Promises: 250 means that the file and its name are on disk; nothing grows without a bound; a web page cannot make a browser send mail here; and
silent connections keep nobody out, as the one that has been idle the longest is closed to make room.
"""

from mailbbgun.environment import need

if __name__ == "__main__":
    need("catcher", serves=True)

import asyncio
import contextlib
import logging
import re
import resource
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.header import decode_header, make_header
from typing import cast

import click
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailbbgun.core import logs
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.net import network_of
from mailbbgun.core.process import CONTEXT, explained_exit, heeded, run, version_option
from mailbbgun.exposure import cannot_listen, taken
from mailbbgun.mailboxes.maildir import Maildir
from mailbbgun.messages import simulator
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings

MAX_SIZE = 35 * 1024 * 1024  # bytes of a message, announced by SIZE (RFC 1870)
MAX_RECIPIENTS = 1000
MAX_CONNECTIONS = 1000
MAX_COMMAND = 1000  # bytes; RFC 5321 §4.5.3.1.4 asks for 512, an internationalised address needs more
IDLE_SECONDS = 300.0  # for the next command, and for the whole of DATA (RFC 5321 §4.5.3.2.7)
OTHER_FILES = 64  # that may be open beside the connections
TELL_SECONDS = 60.0  # between two log lines of a kind that strangers can cause
STOP_SECONDS = 3.0  # for sessions that are in the middle of DATA when we are told to stop
WRITERS = 8  # threads; the file system joins their fsyncs

# Browsers send HTTP to any port that a web page names, and the lines of a form would be commands to us. They send the request line first.
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI")
OPENING = 2048  # bytes of a connection that are looked at, at most its first line
NOT_SMTP = re.compile(
    rb"(?:%b)[ \t\r\n]|[^\r\n]* HTTP/\d|\x16\x03" % "|".join(HTTP_METHODS).encode(), re.IGNORECASE
)  # or TLS, by its first bytes

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00")
SUBJECT = re.compile(rb"^subject:[ \t]*(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)

log = logging.getLogger("mailbbgun.catcher")


class Catcher:
    """What all connections share, and aiosmtpd's handler: it judges envelopes and keeps messages."""

    def __init__(self, maildir: Maildir, most: int = MAX_CONNECTIONS) -> None:
        self.maildir = maildir
        self.receiving = 0
        self._most = most
        self._conversations: set[Conversation] = set()
        self._told: dict[str, float] = {}  # when each kind of line that strangers can cause was logged; the loop's time
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        """Offer PIPELINING besides what aiosmtpd offers: it reads one line after another and never throws input away (RFC 2920 §3.2)."""
        session.host_name = hostname
        return [*replies[:-1], "250-PIPELINING", replies[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        """Take a sender, or say why not."""
        refusal = "" if address == "<>" else _refusal(address, envelope)
        if not refusal:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return refusal or "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        """Take a recipient, or say why not."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        refusal = _refusal(address, envelope)
        if not refusal and (refusal := simulator.refusal(address)):
            log.info("refused", extra={"from": envelope.mail_from, "to": address, "reply": refusal})
        if not refusal:
            envelope.rcpt_tos.append(address)
        return refusal or "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Answer what nobody expected; its text is for the log, not for the peer."""
        log.error("unexpected", exc_info=error)
        return "451 4.3.0 Internal error"

    async def keep(self, envelope: Envelope, content: bytes) -> str:
        """Store a message, ``content`` as received with CRLF, and return the reply to its final dot."""
        if BARE.search(content):
            # Where another server sees an end of data, there would begin a message nobody authorised (SMTP smuggling, RFC 5321 §2.3.8).
            return "550 5.5.2 Bare CR, bare LF or NUL in the message"
        text = content.replace(b"\r\n", b"\n")
        # Before it is kept: who loses patience, or is cut off when we are stopped, has it sent again and finds it here once.
        await asyncio.sleep(max(map(simulator.hesitation, envelope.rcpt_tos)))
        try:
            file = await asyncio.get_running_loop().run_in_executor(
                self._writers, self.maildir.keep, _top(envelope) + text
            )
        except OSError as error:
            log.error("not_kept", extra={"why": error})
            return "452 4.3.1 Insufficient system storage"
        log.info(
            "caught",
            extra={
                "from": envelope.mail_from,
                "to": _shown(envelope.rcpt_tos),
                "subject": _subject(text),
                "file": file,
            },
        )
        return f"250 2.0.0 Kept as {file.name}"

    def protocol(self) -> asyncio.Protocol:
        """Return the other side of a new connection."""
        return Conversation(self)

    def welcome(self, conversation: "Conversation") -> None:
        """Count a connection. If there are too many, close one: of whom has the most, the one that has been idle the longest."""
        self._conversations.add(conversation)
        if len(self._conversations) > self._most:
            held = Counter(one.network for one in self._conversations)
            idle = [one for one in self._conversations if not one.being_kept] or [conversation]
            least = min(idle, key=lambda one: (-held[one.network], *one.worth))
            self.forget(least)
            least.hang_up(b"421 4.3.2 Too many connections")
            self.tell("closed_to_make_room", {"client": least.network, "connections": self._most})

    def forget(self, conversation: "Conversation") -> None:
        """Count a connection out."""
        self._conversations.discard(conversation)

    def tell(self, event: str, fields: dict[str, object]) -> None:
        """Log what strangers can cause as often as they like, at most once a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._told.get(event, -TELL_SECONDS) + TELL_SECONDS:
            self._told[event] = now
            log.warning(event, extra=fields)


class Conversation(SMTP):
    """One connection: aiosmtpd with a DATA that is bounded also for a line that never ends."""

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
        self.command_size_limits = defaultdict(
            lambda: MAX_COMMAND
        )  # aiosmtpd's own is shared by all connections and grows with each EHLO
        self._smtp_methods |= dict.fromkeys(HTTP_METHODS, self._refuse_http)
        self._catcher = catcher
        self._opening: bytes | None = b""  # what came so far, until it is known to be SMTP
        self._hung_up = self._has_spoken = self._in_data = False
        self._since = self.loop.time()
        self.network = "unknown"
        self.being_kept = False  # its message is whole: whoever sent it waits for an answer

    @property
    def worth(self) -> tuple[bool, bool, float]:
        """The less, the sooner it is closed to make room: silent ones first, then those that do not send mail, the longest idle first."""
        return self._in_data, self._has_spoken, self._since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        peer = transport.get_extra_info("peername")
        self.network = network_of(peer[0]) if isinstance(peer, tuple) else "unknown"
        super().connection_made(transport)
        self._catcher.welcome(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count it out."""
        self._catcher.forget(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Read on, unless this is another protocol than SMTP: of that, not a line is taken for a command."""
        if self._hung_up:
            return
        if self._opening is not None:
            self._opening = (self._opening + data)[:OPENING]
            # A first line that is so long is no command (RFC 5321 §4.5.3.1.4), and what it is may stand at its end.
            if NOT_SMTP.match(self._opening) or (len(self._opening) == OPENING and b"\n" not in self._opening):
                self._refuse_other_protocol()
                return
            if b"\n" in self._opening:
                self._opening = None
        super().data_received(data)

    async def _refuse_http(self, _arg: str | None) -> None:
        self._refuse_other_protocol()
        await self.loop.create_future()  # until the connection is closed: the lines behind it have been read already

    def _refuse_other_protocol(self) -> None:
        self.hang_up(b"421 4.7.0 This is an SMTP server: no HTTP, no TLS")
        self._catcher.tell("other_protocol", {"client": self.network, "why": "it speaks HTTP or TLS; here is SMTP"})

    def hang_up(self, reply: bytes) -> None:
        """Say why and close. What still comes is thrown away."""
        self._hung_up = True
        talk = cast(asyncio.Transport, self.transport)
        talk.write(reply + b"\r\n")
        talk.close()
        self.loop.call_later(5, talk.abort)  # close() waits for a peer that may never read

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Note that a command came: aiosmtpd calls this for each, and once at the beginning."""
        self._has_spoken, self._since = (
            self.transport is not None,
            self.loop.time(),
        )  # there is no transport yet at the beginning
        super()._reset_timeout(duration)

    async def smtp_DATA(self, arg: str) -> None:
        """Receive a message and answer for it."""
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
        """Read up to the final dot; return why it is refused, or the message without its dot-stuffing (RFC 5321 §4.5.2)."""
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
                within_line = False  # this was the end of a line that is too long, not a line
            elif line == b".\r\n":
                return refusal, b"".join(lines)
            elif not refusal:
                size += len(line)
                refusal = (
                    "552 5.3.4 Message too big"
                    if size > MAX_SIZE
                    else "500 5.5.2 Line too long"
                    if len(line) > self.line_length_limit
                    else ""
                )
                lines.append(line[1:] if line.startswith(b".") else line)
                if refusal:
                    lines.clear()

    def _timeout_cb(self) -> None:
        self.hang_up(b"421 4.4.2 Too slow")


async def serve(settings: Settings, maildir: Maildir, most: int = MAX_CONNECTIONS) -> None:
    """Catch mail until asked to end, on at most so many connections at once. Raises ``OSError`` when the address cannot be listened on."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for one in heeded():
        loop.add_signal_handler(one, stopped.set)
    catcher = Catcher(maildir, most)
    server = await loop.create_server(
        catcher.protocol, settings.CATCHER_HOST, settings.CATCHER_PORT, backlog=MAX_CONNECTIONS
    )
    log.info(
        "catching", extra={"host": settings.CATCHER_HOST, "port": settings.CATCHER_PORT, "maildir": maildir.folder}
    )
    await stopped.wait()
    server.close()
    until = loop.time() + STOP_SECONDS
    while catcher.receiving and loop.time() < until:
        await asyncio.sleep(0.02)


@click.command(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Catch mail in the foreground and keep it in VAR/mail, until told to stop."""
    with explained_exit("catcher"):
        settings = load()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        if refused := taken(settings.CATCHER_HOST, settings.CATCHER_PORT, "CATCHER_PORT"):
            sys.exit(f"catcher: {refused}")
        maildir = _maildir(settings)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(serve(settings, maildir, max(1, min(MAX_CONNECTIONS, most - OTHER_FILES))))
    except OSError as error:  # another program has taken the port since, say
        sys.exit(f"catcher: {cannot_listen(settings.CATCHER_HOST, settings.CATCHER_PORT, 'CATCHER_PORT', error)}")


def _maildir(settings: Settings) -> Maildir:
    maildir = Maildir(settings.var / "mail", settings.CATCHER_MOST, settings.CATCHER_SIZE)
    try:
        maildir.make()
    except OSError as error:
        raise ConfigurationError(f"VAR: the folder {maildir.folder} cannot be made: {error.strerror}") from error
    return maildir


def _refusal(address: str, envelope: Envelope) -> str:
    if (
        not address.isprintable()
    ):  # control characters would forge header lines; lone surrogates are bytes that are no UTF-8
        return "553 5.1.3 Not an address"
    if not address.isascii() and not envelope.smtp_utf8:
        return "553 5.6.7 SMTPUTF8 is needed for this address"  # RFC 6531 §3.5
    return ""


def _top(envelope: Envelope) -> bytes:
    lines = [f"X-Envelope-From: {envelope.mail_from}", *(f"X-Envelope-To: {to}" for to in envelope.rcpt_tos)]
    return "".join(line + "\n" for line in lines).encode()


def _shown(recipients: Sequence[str]) -> str:
    return ", ".join(recipients[:3]) + (f" and {len(recipients) - 3} more" if len(recipients) > 3 else "")


def _subject(text: bytes) -> str:
    found = SUBJECT.search(text.partition(b"\n\n")[0][:65_536])
    raw = b" ".join(found[1].split()).decode("utf-8", "replace") if found else ""
    try:
        return str(make_header(decode_header(raw[:1000])))[:100]
    except (ValueError, LookupError):  # not what RFC 2047 allows: show it as it came
        return raw[:100]


if __name__ == "__main__":
    run("catcher", main)
