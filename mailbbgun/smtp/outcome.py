"""What became of one recipient, and what a reply means for it. Pure: no network, no clock.

The rules follow RFC 5321 §4.2, RFC 3463, RFC 7504, the IANA registry of enhanced codes, and what
large senders learned: the class comes from the three-digit code, also where the enhanced code
disagrees; only a 5xx about *this mail* ends it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mailbbgun.smtp.limits import too_many_recipients
from mailbbgun.smtp.reply import Reply


class Phase(StrEnum):
    """Where in the dialogue something happened."""

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
    """Who it was that said so, or said nothing: the name it was asked for by, and its IP address
    where one was chosen.
    """

    host: str
    ip: str | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server took responsibility for the mail (2xx after the dot)."""

    reply: Reply
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not sent; to be tried again `after` seconds if the server named a time, by the schedule if
    None.
    """

    reply: Reply
    phase: Phase
    after: float | None = None
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Bounced:
    """Refused for good; sending the same again is pointless."""

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The final dot may have left and no verdict came back: nobody can say whether the mail was
    taken.
    """

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses *us* (password, missing or wrong TLS), not the mail: pause the account,
    keep the mail.
    """

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


@dataclass(frozen=True, slots=True)
class Fenced:
    """`before_dot` said no; the mail was not sent."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class TooMany:
    """This recipient did not fit into the transaction (RFC 5321 §4.5.3.1.10), and nothing was sent
    to it: send it in a further one.
    """

    reply: Reply
    phase: Phase
    server: AnsweringServer | None = None


#: Where a server was asked, `server` says which; a Fenced mail was taken from it before it could
#: say anything.
Outcome = Delivered | Deferred | Bounced | Unknown | Refused | Fenced

#: Phases before any mail is spoken of: a failure there says nothing about the mail.
OPENING = frozenset({Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.BANNER, Phase.EHLO, Phase.STARTTLS, Phase.AUTH})

#: RFC 4954 §6 and RFC 5248: authentication or encryption is missing, wrong or too weak. Not 525
#: (account disabled), which servers say of recipients too; at AUTH every 5xx is about us anyway.
_ABOUT_US = frozenset({523, 524, 530, 534, 535, 538})

#: Not 5.7.9 and 5.7.13: Yahoo says the one of content, others the other of recipients.
_ABOUT_US_ENHANCED = frozenset({"5.7.8", "5.7.10", "5.7.11", "5.7.12"})

_AUTH_FIRST = re.compile(
    r"\bauth(?:entication)? (?:is )?(?:required|needed|first)\b|\bneed(?: to)? (?:auth\b|authenticate)|"
    r"\b(?:must|please) (?:auth\b|authenticate\b|log ?in\b)|\bclient (?:was|is) not authenticated\b",
    re.IGNORECASE,
)
# 5.7.26 (DMARC), Microsoft's 5.7.1xx and its RESOLVER.RST.AuthRequired speak of the sender's or one
# recipient's policy in the same words.
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
    """What `reply`, being the answer at `phase`, means for the recipients it speaks of.

    TooMany is possible at each phase of a mail, as a definite no it is safe even after the dot.
    `alone`: there is one recipient, so there is nothing to split. Its refusal goes by its code, but
    at RCPT, where RFC 5321 §4.5.3.1.10 calls it temporary.

    Delivered comes from a 2xx to the dot and nothing else: a positive reply elsewhere that ended a
    transaction did not deliver anything, and is Deferred. A reply of code 0 (our own words) goes by
    the class of its enhanced code.
    """
    kind = reply.code // 100
    if phase in _OF_MAIL and too_many_recipients(reply) and not (alone and phase is not Phase.RCPT):
        return Deferred(reply, phase, retry_after(reply.text)) if alone else TooMany(reply, phase)
    if reply.code == 0:
        return Bounced(reply, phase) if (reply.enhanced or "").startswith("5.") else Deferred(reply, phase)
    if kind == 2 and phase is Phase.DOT:
        return Delivered(reply)
    if kind == 4:
        return _transient(phase, reply)
    if kind == 5:
        return _permanent(phase, reply)
    return Unknown(reply, phase) if phase is Phase.DOT else Deferred(reply, phase)


def unserved(outcome: Outcome) -> bool:
    """Whether another server may do better: this one could not be talked to, or closes (421), and
    the dot was not sent.
    """
    if isinstance(outcome, Deferred | Refused) and outcome.phase in OPENING:
        return True
    return isinstance(outcome, Deferred) and outcome.phase is not Phase.DOT and outcome.reply.code in (0, 421)


def about_smtputf8(reply: Reply) -> bool:
    """Whether a server's reply refuses addresses (5.6.7) or headers (5.6.9) for their need of
    SMTPUTF8 (RFC 6531 §3.5), so that a message without it may be taken.
    """
    return reply.code != 0 and reply.enhanced in ("5.6.7", "5.6.9")


def retry_after(text: str) -> float | None:
    """Seconds of a server's own "try again in 5 minutes", held between a minute and a day; None if
    it named none.
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
        # 521 and 554 at the banner (RFC 7504, RFC 5321 §3.1): this host takes no mail; another one
        # may.
        return Deferred(reply, phase)
    return Refused(reply, phase) if _about_us(phase, reply) else Bounced(reply, phase)


def _about_us(phase: Phase, reply: Reply) -> bool:
    if reply.code in _ABOUT_US or reply.enhanced in _ABOUT_US_ENHANCED:
        return True
    if phase is Phase.DOT:  # the content was seen: "authentication" now means SPF, DKIM or DMARC of this mail
        return False
    if "RESOLVER." in reply.text:
        return False
    return reply.enhanced in _AUTH_FIRST_ENHANCED and bool(_AUTH_FIRST.search(reply.text))
