"""The texts of replies: each has a code (RFC 5321 §4.2) and an enhanced one (RFC 3463)."""

import logging
from collections.abc import Mapping

from mailbbgun.core.errors import (
    FileRefused,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    MailBBGunError,
    Suspended,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

#: Characters of a reply's line, at most (RFC 5321 §4.5.3.1.5: 512 octets with CR LF).
LONGEST = 500

OK = "250 2.0.0 OK"
UNAVAILABLE = "451 4.3.0 Try again later: it is not certain that this is stored"
TOO_BIG = "552 5.3.4 The message is too big"
BARE = "550 5.6.0 The message has a bare CR, a bare LF or a NUL: lines end in CR LF (RFC 5321 2.3.8)"
LOOP = "554 5.4.6 The message goes round in circles: it has too many Received fields"
NO_MEMORY = "452 4.3.1 Too much mail at once: try again later"

#: What breaks a rule → its code. Fields without one are about the message itself: 550 5.6.0.
_FIELDS = {
    "from": "550 5.7.1",
    "mail_from": "550 5.7.1",
    "envelope_from": "550 5.7.1",
    "recipients": "550 5.1.3",
    "to": "550 5.1.3",
    "cc": "550 5.1.3",
    "bcc": "550 5.1.3",
}

_CODES: tuple[tuple[type[MailBBGunError], str], ...] = (
    (TooLarge, "552 5.3.4"),
    (TooManyRequests, "450 4.7.1"),
    (IdempotencyMismatch, "550 5.6.0"),
    (FileRefused, "554 5.7.1"),
    (Suspended, "525 5.7.13"),
    (Unauthorized, "535 5.7.8"),
    (Forbidden, "550 5.7.1"),
    (Unavailable, "451 4.3.0"),
)

log = logging.getLogger("mailbbgun.smtpd")


def one_line(text: str) -> str:
    """Return a reply as one line of printable ASCII that is not too long."""
    shown = "".join(one if " " <= one <= "~" else "?" for one in text.replace("…", "...").replace("§", ""))
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."


def refusal(error: MailBBGunError, names: Mapping[str, str] | None = None) -> str:
    """Return the reply to a message or a command that raised an error.

    ``names``: what the client calls the fields that the error names.
    """
    if isinstance(error, InvalidInput) and error.fields:
        field, sentences = next(iter(error.fields.items()))
        shown = (names or {}).get(field.partition(".")[0], field if field.startswith("X-") else None)
        text = sentences[0] if sentences else error.message
        return one_line(f"{_FIELDS.get(field, '550 5.6.0')} {f'{shown}: ' if shown else ''}{text}")
    if isinstance(error, InvalidInput):
        return one_line(f"550 5.6.0 {error.message}")
    for kind, code in _CODES:
        if isinstance(error, kind):
            wait = f" Try again in {error.retry_after} seconds." if isinstance(error, TooManyRequests) else ""
            return one_line(f"{code} {error.message}{wait}")
    log.error("unexpected", exc_info=error)
    return "451 4.3.0 Internal error"
