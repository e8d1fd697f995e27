"""Names the cause of a failure: of a report that came back, and of a server's reply to us."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailbbgun.bounces.causes import CAUSES, CODES, ENHANCED
from mailbbgun.bounces.patterns import PATTERNS
from mailbbgun.bounces.report import BounceClass

#: Characters of a reply that are looked at.
LONGEST = 2_000

_COMPILED = tuple((re.compile(pattern), reason) for pattern, reason in PATTERNS)
_CODE = re.compile(r"(?<![\d.\-/:\w])(?<!port )([45]\d\d)(?=[ \-:,#<.\]']|$)(?!\.\d)")
_ENHANCED = re.compile(r"(?<![\d.\w])([45]\.\d{1,2}\.\d{1,3})(?![\d.])")

# What Postfix and IronPort say before the reason.
_PREFIX = re.compile(r"recipient address rejected: (?=\w{3,})|unknown address error|other mail system problem")
# Servers that filter for their users say "user unknown" once they have seen the mail; the address is
# good then.
_AFTER_DATA = re.compile(
    r"end of data|final data|after i sent the message|in reply to (?:end of )?data|failed after i sent|"
    r"smtp command data"
)
# KDDI's words for a recipient who filters; of one who does not exist they name the address.
_NOBODY = re.compile(r"\b550:? ?: user unknown")
_AT_RCPT = re.compile(r"rcpt[ _]to|rcpt command|does not like recipient")
_UNKNOWN_USER = re.compile(r"unknown user|user unknown|no such user")
# sendmail sends DATA along with RCPT, so that a refusal of RCPT seems to be one of DATA; 503 or 554 follows it then.
_TRANSCRIPT = re.compile(r">>> (?:data|\.)\s{1,20}<<< 5")
_NO_RECIPIENT = re.compile(r"<<< (?:503|554)[^<]{0,80}(?:need rcpt|valid r|recipient)|rcpt first|rcpt command")
_ABOUT_SENDER = re.compile(r"in reply to mail from|error from remote mail(?:er| server) after mail from")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a mail was not delivered. ``reason`` is a key of :data:`causes.CAUSES`, or one of the operator's."""

    class_: BounceClass
    reason: str


UNKNOWN = Cause(BounceClass.UNKNOWN, "unknown")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the operator: replies that match ``pattern``, in any case, have this cause."""

    pattern: re.Pattern[str]
    cause: Cause


class Classifier:
    """Names causes by the operator's rules first, then by the tables of ``causes``. Thread-safe."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._remembered = lru_cache(maxsize=1_024)(self._classified)

    def classify(self, code: int | None, enhanced: str | None, text: str) -> Cause:
        """Return the cause of a reply; either code may be missing. Words decide, then codes."""
        return self._remembered(code, enhanced, text[:LONGEST])

    def _classified(self, code: int | None, enhanced: str | None, text: str) -> Cause:
        words = " ".join(text.split()).lower()
        for rule in self._rules:
            if rule.pattern.search(words):
                return rule.cause
        reason = _reason(code, enhanced, words)
        return Cause(CAUSES[reason], reason)


_DEFAULT = Classifier()


def classify_reply(code: int | None, enhanced: str | None, text: str) -> Cause:
    """Return the cause of a reply by the built-in tables."""
    return _DEFAULT.classify(code, enhanced, text)


def in_reply_to(text: str, command: str) -> str:
    """Return a reply's text with the command that it answers: the same words mean less after DATA than after RCPT."""
    return f"{text[: LONGEST - 60]} (in reply to {command} command)"


def after_data(text: str) -> bool:
    """Return whether a server said it once it had seen the mail, as a notice or a transcript tells."""
    words = text[: 4 * LONGEST].lower()
    if _AFTER_DATA.search(words):
        return True
    return bool(_TRANSCRIPT.search(words)) and not _NO_RECIPIENT.search(words)


def at_rcpt(text: str) -> bool:
    """Return whether a server said it of the recipient alone, as a notice tells."""
    return bool(_AT_RCPT.search(text[:LONGEST].lower()))


def codes_in(text: str) -> tuple[int | None, str | None]:
    """Return the three-digit code and the enhanced code that a text quotes; None for what it does not."""
    code, quoted = _CODE.search(text[:LONGEST]), _ENHANCED.findall(text[:LONGEST])
    # Gateways put a vague one before the one that they were told.
    exact = next((one for one in quoted if not one.endswith(".0")), None)
    return (int(code[1]) if code else None), exact or next(iter(quoted), None)


def _reason(code: int | None, enhanced: str | None, words: str) -> str:
    detail = enhanced.partition(".")[2] if enhanced else ""
    words = _PREFIX.sub("", words)
    reason = next((reason for pattern, reason in _COMPILED if pattern.search(words)), None)
    if CAUSES[reason or "unknown"] is BounceClass.HARD and detail.startswith("7."):
        return "policy"  # RFC 3463 §3.8: whatever the words, it refuses this mail, and not the address for good
    if reason == "invalid_mailbox" and _UNKNOWN_USER.search(words):
        if detail != "1.1" and (_AFTER_DATA.search(words) or _NOBODY.search(words)):
            return "recipient_refuses"
        if detail == "2.1" and not _AT_RCPT.search(words):  # RFC 3463 §3.3: the mailbox exists
            return "mailbox_disabled"
    if CAUSES[reason or "unknown"] is BounceClass.HARD and _ABOUT_SENDER.search(words):
        return "sender_rejected"
    if reason == "mailbox_disabled" and detail == "1.1":
        return "invalid_mailbox"
    if reason is not None and not (reason in _VAGUE and detail in ENHANCED and not detail.endswith(".0")):
        return reason
    return _by_code(code, detail, (enhanced or "")[:1] == "4") or reason or "unknown"


#: Causes whose words are too common to be believed against an exact code.
_VAGUE = frozenset({"policy", "system_error", "mailer_error", "content", "protocol", "network_error", "expired"})


def _by_code(code: int | None, detail: str, temporary: bool) -> str | None:
    subject = detail.partition(".")[0]
    if reason := ENHANCED.get(detail):
        # A temporary "no such user" is a server that could not look.
        return "temporary_failure" if temporary and CAUSES[reason] is BounceClass.HARD else reason
    if subject == "7":
        return "policy"
    if subject in ("4", "5", "6") and detail:
        return {"4": "network_error", "5": "protocol", "6": "content"}[subject]
    if code is not None and code in CODES:
        return CODES[code]
    return "temporary_failure" if temporary or (code or 0) // 100 == 4 else None
