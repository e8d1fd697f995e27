"""The octets of a message between DATA and the final dot, and the checks that they are one message. Pure."""

from mailbbgun.smtp.outcome import Bounced, Phase
from mailbbgun.smtp.reply import Reply

#: Octets of a line of the message, without its CRLF (RFC 5322 §2.1.1).
MAX_TEXT_LINE = 998


class EnvelopeError(ValueError):
    """The envelope or its message holds something that must not be sent to a server.

    `outcome` is the outcome to record.
    """

    def __init__(self, enhanced: str, text: str, phase: Phase) -> None:
        super().__init__(text)
        self.outcome = Bounced(Reply(0, enhanced, text), phase)


def content(raw: bytes) -> bytes:
    """Return `raw` as it follows DATA: dot-stuffed (RFC 5321 §4.5.2), ending in CRLF, no final dot.

    Raises EnvelopeError like `check_lines`.
    """
    check_lines(raw)
    if raw and not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    if b"\r\n." in raw:
        raw = raw.replace(b"\r\n.", b"\r\n..")
    return b"." + raw if raw.startswith(b".") else raw


def check_lines(raw: bytes) -> None:
    """Check a message, or whole lines of one; the last line may lack its CRLF.

    Raises EnvelopeError 5.6.0 for a bare CR or LF, a NUL, or a line over 998 octets: another server
    might split these into other lines than we do (SMTP smuggling).
    """
    if not raw.count(b"\r\n") == raw.count(b"\r") == raw.count(b"\n") or b"\0" in raw:
        raise EnvelopeError("5.6.0", "the message holds a bare CR, a bare LF or a NUL", Phase.BODY)
    start, size = 0, len(raw)
    while size - start > MAX_TEXT_LINE:
        # Jump to the last line end within reach. No line before it can be too long, so most lines
        # are never looked at.
        end = raw.rfind(b"\n", start, start + MAX_TEXT_LINE + 2)
        if end < 0:
            raise EnvelopeError("5.6.0", f"the message holds a line longer than {MAX_TEXT_LINE} octets", Phase.BODY)
        start = end + 1
