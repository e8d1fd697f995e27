"""What all connections share: it judges envelopes, keeps messages, and bounds the connections."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.header import decode_header, make_header
from typing import Protocol

from aiosmtpd.smtp import SMTP, Envelope, Session

from mailbbgun.mailboxes.maildir import Maildir
from mailbbgun.relays import simulator

#: Recipients of a message, at most.
MAX_RECIPIENTS = 1000

#: Connections at once, at most.
MAX_CONNECTIONS = 1000

#: Seconds between two log lines of a kind that strangers can cause.
TELL_SECONDS = 60.0

#: Threads that write files. The file system joins their fsyncs.
WRITERS = 8

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00")
SUBJECT = re.compile(rb"^subject:[ \t]*(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)

log = logging.getLogger("mailbbgun.catcher")


class Closable(Protocol):
    """A connection that can be closed to make room."""

    network: str
    being_kept: bool

    @property
    def worth(self) -> tuple[bool, bool, float]:
        """The connection with the least is closed first."""

    def hang_up(self, reply: bytes) -> None:
        """Say why, and close."""


class Catcher:
    """What all connections share, and aiosmtpd's handler. For the event loop's thread."""

    def __init__(self, maildir: Maildir, most: int = MAX_CONNECTIONS) -> None:
        self.maildir = maildir
        #: How many messages are being received now.
        self.receiving = 0
        self._most = most
        self._conversations: set[Closable] = set()
        self._told: dict[str, float] = {}  # event → when it was last logged; the loop's time
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        """Offer PIPELINING, too.

        aiosmtpd reads one line after another and discards no input, as RFC 2920 §3.2 requires.
        """
        session.host_name = hostname
        return [*replies[:-1], "250-PIPELINING", replies[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        """Accept a sender, or say why not."""
        refusal = "" if address == "<>" else _refusal(address, envelope)
        if not refusal:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return refusal or "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        """Accept a recipient, or say why not."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        refusal = _refusal(address, envelope)
        if not refusal and (refusal := simulator.refusal(address)):
            log.info("refused", extra={"from": envelope.mail_from, "to": address, "reply": refusal})
        if not refusal:
            envelope.rcpt_tos.append(address)
        return refusal or "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Reply to an unexpected error. Its text is for the log, not for the client."""
        log.error("unexpected", exc_info=error)
        return "451 4.3.0 Internal error"

    async def keep(self, envelope: Envelope, content: bytes) -> str:
        """Store a message, and return the reply to its final dot.

        ``content`` is as received, with CR LF.
        """
        if BARE.search(content):
            # Another server may see the end of the data there, and then a message that nobody
            # authorised (SMTP smuggling, RFC 5321 §2.3.8).
            return "550 5.5.2 Bare CR, bare LF or NUL in the message"
        text = content.replace(b"\r\n", b"\n")
        # The simulated delay comes before the message is kept: if the client gives up, or we are
        # stopped, the message is sent again, and then is here only once.
        await asyncio.sleep(max(map(simulator.hesitation, envelope.rcpt_tos)))
        try:
            file = await asyncio.get_running_loop().run_in_executor(
                self._writers, self.maildir.keep, _top(envelope) + text
            )
        except OSError as error:
            log.error("not_kept", extra={"why": error})
            return "452 4.3.1 Insufficient system storage"
        told = {"from": envelope.mail_from, "to": _shown(envelope.rcpt_tos), "subject": _subject(text), "file": file}
        log.info("caught", extra=told)
        return f"250 2.0.0 Kept as {file.name}"

    def welcome(self, conversation: Closable) -> None:
        """Count a new connection. If there are too many, close one.

        It is one of the network that has the most, and of these the one with the least worth.
        """
        self._conversations.add(conversation)
        if len(self._conversations) > self._most:
            held = Counter(one.network for one in self._conversations)
            idle = [one for one in self._conversations if not one.being_kept] or [conversation]
            least = min(idle, key=lambda one: (-held[one.network], *one.worth))
            self.forget(least)
            least.hang_up(b"421 4.3.2 Too many connections")
            self.tell("closed_to_make_room", {"client": least.network, "connections": self._most})

    def forget(self, conversation: Closable) -> None:
        """Count a connection no longer."""
        self._conversations.discard(conversation)

    def tell(self, event: str, fields: dict[str, object]) -> None:
        """Log an event that strangers can cause as often as they like; at most once a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._told.get(event, -TELL_SECONDS) + TELL_SECONDS:
            self._told[event] = now
            log.warning(event, extra=fields)


def _refusal(address: str, envelope: Envelope) -> str:
    # Control characters would forge header lines. Lone surrogates are bytes that are not UTF-8.
    if not address.isprintable():
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
    except (ValueError, LookupError):  # not encoded as RFC 2047 says: show it as it came
        return raw[:100]
