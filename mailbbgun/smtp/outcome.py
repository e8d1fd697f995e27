"""Outcomes of one recipient, and the rules that turn a reply into one. Pure.

The rules follow RFC 5321 §4.2, RFC 3463, RFC 7504, the IANA registry of enhanced codes, and the
practice of large senders. The three-digit code decides between temporary and permanent, even where
the enhanced code disagrees. Only a 5xx about *this mail* makes it bounce.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from mailbbgun.database.compiled import Statements, StatementStep
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.server_limits import too_many_recipients


class Phase(StrEnum):
    """The part of the SMTP dialogue in which something happened."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"
    RSET = "rset"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class AnsweringServer:
    """The server an outcome comes from: the host name, and the IP address if one was chosen."""

    host: str
    ip: str | None


class DeliveryIds(Protocol):
    """Names the delivery that an effect belongs to: its result does."""

    @property
    def delivery_id(self) -> UUID: ...
    @property
    def message_id(self) -> UUID: ...
    @property
    def tenant_id(self) -> UUID: ...


class Effect(Protocol):
    """What a delivery on this machine changes in the database, such as a mail in a mailbox.

    ``events/changes/record.py`` applies it in the transaction of the delivery's result, if that
    counts: so it happens exactly once.
    """

    @property
    def gate(self) -> "Gate | None":
        """Decides whether it may be applied; None: it may in any case."""

    @property
    def changes(self) -> Sequence[UUID]:
        """The ids of other deliveries that it changes. They are locked when ``steps`` is called."""

    @property
    def makes_due(self) -> bool:
        """Whether it makes deliveries of the same message, which are due at once."""

    def steps(self, statements: Statements, delivery: DeliveryIds) -> Sequence[StatementStep]:
        """Return the statements that make the change.

        They are executed last in the transaction, after the result and its event. ``statements`` can
        be asked what must be known first. No values may make them fail: that would stop the results
        of others, which share the transaction.
        """


class Gate(Protocol):
    """Decides in a transaction which of its effects may be applied, such as by a quota.

    It is one object for all effects that it decides on together.
    """

    @property
    def refusal(self) -> "Deferred":
        """The outcome of a delivery whose effect may not be applied."""

    def refused(self, statements: Statements, effects: Sequence[Any]) -> Collection[int]:
        """Return the places of the effects that may not be applied.

        It is called first in the transaction, and locks what the decision rests on.
        """


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server took responsibility for the mail: it answered the dot with 2xx.

    `effect` is set where the mail was not sent, but is delivered here.
    """

    reply: Reply
    server: AnsweringServer | None = None
    effect: Effect | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Deferred:
    """The mail was not sent and is to be retried.

    `after` is the wait in seconds that the server named; None means by the retry schedule.
    """

    reply: Reply
    phase: Phase
    after: float | None = None
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Bounced:
    """The server refused the mail for good; a retry is pointless."""

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The final dot may have left but no reply came: nobody knows if the server took the mail."""

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses *us*, not the mail: wrong password, or TLS that is missing or wrong.

    The account is to be paused; the mail is kept.
    """

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Fenced:
    """`before_dot` returned False, so the mail was not sent."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class TooMany:
    """This recipient was one too many for the transaction (RFC 5321 §4.5.3.1.10).

    Nothing was sent to it: send it in a further transaction.
    """

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


#: `server` is set where a server was asked. Fenced has none: we stopped before the server's reply.
Outcome = Delivered | Deferred | Bounced | Unknown | Refused | Fenced

#: Phases before the mail is mentioned: a failure there says nothing about the mail.
OPENING = frozenset({Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.BANNER, Phase.EHLO, Phase.STARTTLS, Phase.AUTH})

#: RFC 4954 §6 and RFC 5248: authentication or encryption is missing, wrong or too weak. 525
#: (account disabled) is left out because servers say it of recipients too; at AUTH every 5xx is
#: about us anyway.
_ABOUT_US = frozenset({523, 524, 530, 534, 535, 538})

#: 5.7.9 and 5.7.13 are left out: Yahoo says 5.7.9 of content, others say 5.7.13 of recipients.
_ABOUT_US_ENHANCED = frozenset({"5.7.8", "5.7.10", "5.7.11", "5.7.12"})

_AUTH_FIRST = re.compile(
    r"\bauth(?:entication)? (?:is )?(?:required|needed|first)\b|\bneed(?: to)? (?:auth\b|authenticate)|"
    r"\b(?:must|please) (?:auth\b|authenticate\b|log ?in\b)|\bclient (?:was|is) not authenticated\b",
    re.IGNORECASE,
)
# Left out: 5.7.26 (DMARC) and Microsoft's 5.7.1xx and RESOLVER.RST.AuthRequired. They use the same
# words for the policy of the sender or of one recipient.
_AUTH_FIRST_ENHANCED = frozenset({None, "5.0.0", "5.5.0", "5.5.1", "5.7.0", "5.7.1"})

#: Phases in which a server may say that there are too many recipients.
_OF_MAIL = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT})

_AGAIN = re.compile(
    r"(?:\btry|\bretry|\bagain|\bcome back|\bwait|\blater|gr[ae]y-?list\w*|\bresend|\bdelay\w*)[^\d.;]{0,40}"
    r"(?:(?P<clock>\d{1,2}:\d\d:\d\d)|(?P<count>\d{1,6}) ?(?P<unit>seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h))\b",
    re.IGNORECASE,
)
_UNITS = {"s": 1, "m": 60, "h": 3600}


def classify(phase: Phase, reply: Reply, *, alone: bool = False) -> Outcome | TooMany:
    """Return what `reply` to `phase` means for the recipients it is about.

    Every phase of a mail may give TooMany; after the dot that is safe too, because the server
    refused. With `alone` (one recipient) there is nothing to split: the reply counts by its code,
    but at RCPT it is Deferred, because RFC 5321 §4.5.3.1.10 calls that limit temporary.

    Only a 2xx to the dot gives Delivered. Another positive reply that ended a transaction delivered
    nothing and gives Deferred. A reply of code 0 (our own words) counts by its enhanced code.
    """
    kind = reply.code // 100
    if kind == 2 and phase is Phase.DOT:
        return Delivered(reply)
    if phase in _OF_MAIL and too_many_recipients(reply) and not (alone and phase is not Phase.RCPT):
        return Deferred(reply, phase, retry_after(reply.text)) if alone else TooMany(reply, phase)
    if reply.code == 0:
        return Bounced(reply, phase) if (reply.enhanced or "").startswith("5.") else Deferred(reply, phase)
    if kind == 4:
        return _transient(phase, reply)
    if kind == 5:
        return _permanent(phase, reply)
    return Unknown(reply, phase) if phase is Phase.DOT else Deferred(reply, phase)


def another_server_may_do(outcome: Outcome) -> bool:
    """Return whether another server may do better.

    That is so if this server could not be talked to or closes (421), and the dot was not sent.
    """
    if isinstance(outcome, Deferred | Refused) and outcome.phase in OPENING:
        return True
    return isinstance(outcome, Deferred) and outcome.phase is not Phase.DOT and outcome.reply.code in (0, 421)


def about_smtputf8(reply: Reply) -> bool:
    """Return whether a server refuses an address (5.6.7) or a header (5.6.9) that needs SMTPUTF8.

    The server may then accept the message without it (RFC 6531 §3.5).
    """
    return reply.code != 0 and reply.enhanced in ("5.6.7", "5.6.9")


def retry_after(text: str) -> float | None:
    """Return the seconds of a server's "try again in 5 minutes", or None if it names no time.

    The result is at least a minute and at most a day.
    """
    found = _AGAIN.search(text)
    if found is None:
        return None
    if found["clock"]:
        hours, minutes, seconds = (int(part) for part in found["clock"].split(":"))
        wait = hours * 3600 + minutes * 60 + seconds
    else:
        wait = int(found["count"]) * _UNITS[found["unit"][0].lower()]
    return float(min(max(wait, 60), 86_400))


def _transient(phase: Phase, reply: Reply) -> Outcome:
    if phase is Phase.AUTH and reply.code in (432, 454):  # RFC 4954 §6: the account, not the mail, needs attention
        return Refused(reply, phase)
    if phase is Phase.STARTTLS and reply.code != 421:  # asked for only where TLS is required (RFC 3207 §4)
        return Refused(reply, phase)
    return Deferred(reply, phase, retry_after(reply.text))


def _permanent(phase: Phase, reply: Reply) -> Outcome:
    if phase in (Phase.STARTTLS, Phase.TLS, Phase.AUTH):
        return Refused(reply, phase)
    if phase in OPENING or phase in (Phase.RSET, Phase.QUIT):
        # 521 and 554 at the banner (RFC 7504, RFC 5321 §3.1): this host takes no mail, but another
        # host may.
        return Deferred(reply, phase)
    return Refused(reply, phase) if _about_us(phase, reply) else Bounced(reply, phase)


def _about_us(phase: Phase, reply: Reply) -> bool:
    if reply.code in _ABOUT_US or reply.enhanced in _ABOUT_US_ENHANCED:
        return True
    if phase is Phase.DOT:  # the server has seen the message: "authentication" now means its SPF, DKIM or DMARC
        return False
    if "RESOLVER." in reply.text:
        return False
    return reply.enhanced in _AUTH_FIRST_ENHANCED and bool(_AUTH_FIRST.search(reply.text))
