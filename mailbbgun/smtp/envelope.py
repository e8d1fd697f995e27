"""The envelope, and checks that nothing in it can become a command or a second message."""

import re
from dataclasses import dataclass, field

from mailbbgun.smtp.outcome import Bounced, Phase
from mailbbgun.smtp.reply import Reply

#: Octets of an address (RFC 5321 §4.5.3.1.3, without the angle brackets).
MAX_PATH = 254

#: Octets of a line of the message, without its CRLF (RFC 5322 §2.1.1).
MAX_TEXT_LINE = 998

# Dots may stand anywhere, because real addresses such as docomo's "a..b." need it. Quoted local
# parts may hold printable characters but no space and no angle bracket. So no address can end the
# path, add a parameter or start a command.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~."
_QUOTED = r'"(?:[!#-;=?-\[\]-~]|\\[!-;=?-~])*"'
_LITERAL = r"\[(?:IPv6:)?[0-9A-Fa-f.:]+\]"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_ASCII_PATH = re.compile(rf"(?:[{_ATEXT}-]+|{_QUOTED})@(?:{_LABEL}(?:\.{_LABEL})*|{_LITERAL})", re.ASCII)
_UTF8_QUOTED = r'"(?:[!#-;=?-\[\]-~\u0080-\U0010ffff]|\\[!-;=?-~])*"'
_UTF8_PATH = re.compile(rf"(?:[{_ATEXT}\u0080-\U0010ffff-]+|{_UTF8_QUOTED})@[A-Za-z0-9_.\u0080-\U0010ffff-]+")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message for some recipients. `mail_from` "" is the null sender (RFC 5321 §4.5.5).

    `raw` is the whole message with CRLF line ends, not dot-stuffed. `smtputf8` permits addresses
    and a header outside ASCII (RFC 6531); a transaction asks for the extension only if it needs it.
    A recipient given twice gets the message once.
    """

    mail_from: str
    recipients: tuple[str, ...]
    raw: bytes = field(repr=False)
    smtputf8: bool = False


class EnvelopeError(ValueError):
    """The envelope holds something that must not be sent to a server.

    `outcome` is the outcome to record.
    """

    def __init__(self, enhanced: str, text: str, phase: Phase) -> None:
        super().__init__(text)
        self.outcome = Bounced(Reply(0, enhanced, text), phase)


def path(address: str, smtputf8: bool, phase: Phase) -> bytes:
    """Return `address` as it stands between the angle brackets (RFC 5321 §4.1.2, RFC 6531 §3.3).

    Raises EnvelopeError: 5.1.3 (5.1.7 for the sender) if the syntax is wrong, 5.6.7 if the address
    needs `smtputf8`.
    """
    if not address and phase is Phase.MAIL:
        return b""
    if address.isascii():
        sound = _ASCII_PATH.fullmatch(address)
    elif not smtputf8:
        raise EnvelopeError("5.6.7", "the server does not offer SMTPUTF8, which an address outside ASCII needs", phase)
    else:
        # isprintable() is False for control, format, private, unassigned and surrogate characters,
        # and for every space but U+0020.
        sound = _UTF8_PATH.fullmatch(address) if address.isprintable() else None
    if not sound or len(octets := address.encode()) > MAX_PATH:
        raise EnvelopeError("5.1.7" if phase is Phase.MAIL else "5.1.3", "the address is malformed", phase)
    return octets


def content(raw: bytes) -> bytes:
    """Return `raw` as it follows DATA: dot-stuffed (RFC 5321 §4.5.2), ending in CRLF, no final dot.

    Raises EnvelopeError 5.6.0 for a bare CR or LF, a NUL, or a line over 998 octets: another server
    might split these into other lines than we do (SMTP smuggling).
    """
    if not raw.count(b"\r\n") == raw.count(b"\r") == raw.count(b"\n") or b"\0" in raw:
        raise EnvelopeError("5.6.0", "the message holds a bare CR, a bare LF or a NUL", Phase.BODY)
    if raw and not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    start = 0
    while start < len(raw):
        # Jump to the last line end within reach. No line before it can be too long, so most lines
        # are never looked at.
        end = raw.rfind(b"\n", start, start + MAX_TEXT_LINE + 2)
        if end < 0:
            raise EnvelopeError("5.6.0", f"the message holds a line longer than {MAX_TEXT_LINE} octets", Phase.BODY)
        start = end + 1
    if b"\r\n." in raw:
        raw = raw.replace(b"\r\n.", b"\r\n..")
    return b"." + raw if raw.startswith(b".") else raw
