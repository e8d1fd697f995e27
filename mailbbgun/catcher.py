"""The built-in mail catcher: an SMTP server that keeps what it gets in the Maildir ``VAR/mail``, so that nobody mails the world by accident.

In: SMTP on ``CATCHER_HOST:CATCHER_PORT``. Out: one file a message, as sent but with LF line ends and, on top, ``X-Envelope-From:``
and one ``X-Envelope-To:`` a recipient; one log line. Recipients of the domain ``simulator`` behave as ``base/simulator.py`` says.
Promises: 250 means that the file and its name are on disk; nothing grows without a bound.
"""

import asyncio
import contextlib
import errno
import logging
import re
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.header import decode_header, make_header
from typing import cast

from mailbbgun.environment import need

if __name__ == "__main__":
    need("catcher")

import click
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailbbgun.base import logs, simulator
from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.exits import CONTEXT, explained_exit, run, version_option
from mailbbgun.base.maildir import Maildir
from mailbbgun.base.settings import Settings, load
from mailbbgun.base.signals import heeded

MAX_SIZE = 35 * 1024 * 1024  # bytes of a message, announced by SIZE (RFC 1870)
MAX_RECIPIENTS = 1000
MAX_CONNECTIONS = 1000
MAX_COMMAND = 1000  # bytes; RFC 5321 §4.5.3.1.4 asks for 512, an internationalised address needs more
IDLE_SECONDS = 300.0  # for the next command, and for the whole of DATA (RFC 5321 §4.5.3.2.7)
STOP_SECONDS = 3.0  # for sessions that are in the middle of DATA when we are told to stop
WRITERS = 8  # threads; the file system joins their fsyncs

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00")
SUBJECT = re.compile(rb"^subject:[ \t]*(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)

log = logging.getLogger("mailbbgun.catcher")


class Catcher:
    """What all connections share, and aiosmtpd's handler: it judges envelopes and keeps messages."""

    def __init__(self, maildir: Maildir) -> None:
        self.maildir = maildir
        self.connections = 0
        self.receiving = 0
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str, replies: list[str]) -> list[str]:
        """Offer PIPELINING besides what aiosmtpd offers: it reads one line after another and never throws input away (RFC 2920 §3.2)."""
        session.host_name = hostname
        return [*replies[:-1], "250-PIPELINING", replies[-1]]

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]) -> str:
        """Take a sender, or say why not."""
        refusal = "" if address == "<>" else _refusal(address, envelope)
        if not refusal:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return refusal or "250 2.1.0 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]) -> str:
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
            file = await asyncio.get_running_loop().run_in_executor(self._writers, self.maildir.keep, _top(envelope) + text)
        except OSError as error:
            log.error("not_kept", extra={"why": error})
            return "452 4.3.1 Insufficient system storage"
        log.info("caught", extra={"from": envelope.mail_from, "to": _shown(envelope.rcpt_tos), "subject": _subject(text), "file": file})
        return f"250 2.0.0 Kept as {file.name}"

    def protocol(self) -> asyncio.Protocol:
        """Return the other side of a new connection."""
        return Conversation(self) if self.connections < MAX_CONNECTIONS else Busy()


class Busy(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say so and hang up."""
        talk = cast(asyncio.Transport, transport)
        talk.write(b"421 4.3.2 Too many connections\r\n")
        talk.close()


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
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND)  # aiosmtpd's own is shared by all connections and grows with each EHLO
        self._catcher = catcher

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._catcher.connections += 1
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Count it out."""
        self._catcher.connections -= 1
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:
        """Receive a message and answer for it."""
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT first")
        elif arg:
            await self.push("501 5.5.4 Syntax: DATA")
        else:
            with self._in_data():
                await self.push("354 End data with <CR><LF>.<CR><LF>")
                refusal, content = await self._receive()
                reply = refusal or await self._catcher.keep(self.envelope, content)
                self.envelope = self._create_envelope()
                await self.push(reply)

    @contextlib.contextmanager
    def _in_data(self) -> Iterator[None]:
        self._catcher.receiving += 1
        try:
            yield
        finally:
            self._catcher.receiving -= 1

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
                refusal = "552 5.3.4 Message too big" if size > MAX_SIZE else "500 5.5.2 Line too long" if len(line) > self.line_length_limit else ""
                lines.append(line[1:] if line.startswith(b".") else line)
                if refusal:
                    lines.clear()

    def _timeout_cb(self) -> None:
        talk = cast(asyncio.Transport, self.transport)
        talk.write(b"421 4.4.2 Too slow\r\n")
        talk.close()
        self.loop.call_later(5, talk.abort)  # close() waits for a peer that may never read


async def serve(settings: Settings, maildir: Maildir) -> None:
    """Catch mail until asked to end. Raises ``OSError`` when the address cannot be listened on."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for one in heeded():
        loop.add_signal_handler(one, stopped.set)
    catcher = Catcher(maildir)
    server = await loop.create_server(catcher.protocol, settings.CATCHER_HOST, settings.CATCHER_PORT, backlog=MAX_CONNECTIONS)
    log.info("catching", extra={"host": settings.CATCHER_HOST, "port": settings.CATCHER_PORT, "maildir": maildir.folder})
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
        maildir = _maildir(settings)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(serve(settings, maildir))
    except OSError as error:
        where = f"{settings.CATCHER_HOST}:{settings.CATCHER_PORT}"
        hint = f" ({where} is in use: MAILBBGUN_CATCHER_PORT sets another port)" if error.errno == errno.EADDRINUSE else ""
        print(f"catcher: cannot start: {error}{hint}", file=sys.stderr)
        sys.exit(1)


def _maildir(settings: Settings) -> Maildir:
    maildir = Maildir(settings.var / "mail", settings.CATCHER_MOST, settings.CATCHER_SIZE)
    try:
        maildir.make()
    except OSError as error:
        raise ConfigurationError(f"VAR: the folder {maildir.folder} cannot be made: {error.strerror}") from error
    return maildir


def _refusal(address: str, envelope: Envelope) -> str:
    if not address.isprintable():  # control characters would forge header lines; lone surrogates are bytes that are no UTF-8
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
