"""Names the cause of a failure: of a report that came back, and of a server's reply to us."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mailbbgun.bounces.causes import CAUSES, CODES, ENHANCED, PATTERNS
from mailbbgun.bounces.report import BounceClass

#: Characters of a reply that are looked at.
LONGEST = 2_000

_COMPILED = tuple((re.compile(pattern), reason) for pattern, reason in PATTERNS)
_CODE = re.compile(r"(?<![\d.\-/:\w])([45]\d\d)(?=[ \-:,#<.\]']|$)(?!\.\d)")
_ENHANCED = re.compile(r"(?<![\d.\w])([45]\.\d{1,2}\.\d{1,3})(?![\d.])")

# Servers that filter for their users say "user unknown" once they have seen the mail; the address is
# good then.
_AFTER_DATA = re.compile(
    r"end of data|final data|after i sent the message|in reply to (?:end of )?data|failed after i sent"
)
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


def codes_in(text: str) -> tuple[int | None, str | None]:
    """Return the three-digit code and the enhanced code that a text quotes; None for what it does not."""
    code, enhanced = _CODE.search(text[:LONGEST]), _ENHANCED.search(text[:LONGEST])
    return (int(code[1]) if code else None), (enhanced[1] if enhanced else None)


def rules_of(given: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Return rules from a list of ``{"pattern", "class", "reason"}``. Raises ValueError, saying what is wrong."""
    rules = []
    for number, one in enumerate(given, 1):
        if not isinstance(one, Mapping) or set(one) != {"pattern", "class", "reason"}:
            raise ValueError(f"rule {number} must have exactly pattern, class and reason")
        if not all(isinstance(one[name], str) and 0 < len(one[name]) <= 500 for name in one):
            raise ValueError(f"rule {number}: pattern, class and reason must be texts of 1 to 500 characters")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", one["reason"]):
            raise ValueError(f"rule {number}: a reason is made of a to z, 0 to 9 and _, such as mailbox_full")
        try:
            pattern = re.compile(one["pattern"].lower())
            cause = Cause(BounceClass(one["class"]), one["reason"])
        except re.error as error:
            raise ValueError(f"rule {number}: the pattern is no regular expression: {error}") from error
        except ValueError as error:
            names = ", ".join(one.value for one in BounceClass)
            raise ValueError(f"rule {number}: the class must be one of {names}") from error
        rules.append(Rule(pattern, cause))
    return tuple(rules)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules in a JSON list. Raises ValueError, saying what is wrong."""
    try:
        given = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(given, list) or len(given) > 500:
        raise ValueError("it must be a JSON list of at most 500 rules")
    return rules_of(given)


def _reason(code: int | None, enhanced: str | None, words: str) -> str:
    detail = enhanced.partition(".")[2] if enhanced else ""
    reason = next((reason for pattern, reason in _COMPILED if pattern.search(words)), None)
    if reason == "invalid_mailbox" and _AFTER_DATA.search(words):
        return "recipient_refuses"
    if reason in ("invalid_mailbox", "invalid_domain") and _ABOUT_SENDER.search(words):
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
    if code in CODES:
        return CODES[code]
    return "temporary_failure" if temporary or (code or 0) // 100 == 4 else None
