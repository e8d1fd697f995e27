"""Asks dkimpy about the chain of seals that forwarders put on a message (RFC 8617)."""

import re

import dkim

from mailbbgun.relays.mx import NoAnswer
from mailbbgun.verification.look_ups import BoundedLookUps
from mailbbgun.verification.message import SignedMessage
from mailbbgun.verification.signatures import QUIET, Verifying, key_from, wrong_with
from mailbbgun.verification.verdict import ARCResult

#: Sets of seals that are verified. RFC 8617 §4.2.1 allows 50, and each needs two keys and two signatures.
MOST_SETS = 10

#: What an ARC-Authentication-Results field says of DMARC (RFC 8601 §2.2), comments left out.
_COMMENT = re.compile(rb"\([^()]*\)")
_PASSED = re.compile(rb";\s*dmarc\s*=\s*pass\b", re.IGNORECASE)


class _Chain(Verifying, dkim.ARC):  # type: ignore[misc]  # dkimpy has no types
    """The seals of a message."""

    def __init__(self, message: SignedMessage) -> None:
        super().__init__(message.header + b"\r\n", logger=QUIET)
        self.message = message


def check(message: SignedMessage, look_ups: BoundedLookUps) -> ARCResult:
    """Verify all seals, the latest first. Exceptions that escape are bugs of the library."""
    if b"arc-" not in message.header.lower():
        return ARCResult("none")
    if message.is_too_large:
        return ARCResult("fail", reason="the header is too large")
    try:
        mail = _Chain(message)
    except (dkim.MessageFormatError, IndexError):  # the latter for a header that begins with a blank
        return ARCResult("fail", reason="the header has a line that is no field")
    fields = [(name.lower(), value) for name, value in mail.headers if name.lower() in dkim.ARC.ARC_HEADERS]
    sets = sum(name == b"arc-seal" for name, _ in fields)
    if wrong := _wrong_with(fields, sets):
        return ARCResult("fail", sets, reason=wrong) if fields else ARCResult("none")
    try:
        word, results, reason = mail.verify(dnsfunc=key_from(look_ups))
    except (NoAnswer, dkim.DKIMException, ValueError, IndexError) as error:
        return ARCResult("fail", sets, reason=str(error))
    if word == dkim.CV_None:
        return ARCResult("none")
    if word != dkim.CV_Pass:
        return ARCResult("fail", sets, reason=reason)
    latest = results[0]
    told = _COMMENT.sub(b"", latest["aar-value"])
    return ARCResult("pass", sets, latest["as-domain"].decode("ascii", "replace").lower(), bool(_PASSED.search(told)))


def _wrong_with(fields: list[tuple[bytes, bytes]], sets: int) -> str:
    """Return why the chain is not even read; "" if it is."""
    if sets == 0:
        return "there is no ARC-Seal"
    if len(fields) > 3 * MOST_SETS:
        return f"there are more than {MOST_SETS} sets"
    return next((wrong for _, value in fields if (wrong := wrong_with(value))), "")
