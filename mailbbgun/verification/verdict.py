"""What is known about the sender of a received message. Pure values."""

from dataclasses import dataclass
from typing import Literal

#: Results as RFC 8601 §2.7 names them.
SPFWord = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
DKIMWord = Literal["none", "pass", "fail", "policy", "neutral", "temperror", "permerror"]
DMARCWord = Literal["none", "pass", "fail", "temperror", "permerror"]
ARCWord = Literal["none", "pass", "fail"]

#: What the owner of a domain asks for if DMARC fails (RFC 7489 §6.3, p=), the mildest first.
Wish = Literal["none", "quarantine", "reject"]


@dataclass(frozen=True, slots=True)
class SPFResult:
    """Whether `domain` permits the client's address (RFC 7208).

    `identity` says where the domain stood: in MAIL FROM, or in EHLO if the sender is null.
    """

    result: SPFWord
    domain: str
    identity: Literal["mailfrom", "helo"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DKIMResult:
    """What became of one signature (RFC 6376). `start` is the beginning of its b= (RFC 6008)."""

    result: DKIMWord
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    start: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ARCResult:
    """What became of the chain of forwarders' seals (RFC 8617).

    `sealer` is the domain that sealed last. `passed_before`: that domain says the message passed DMARC when it
    came there.
    """

    result: ARCWord
    sets: int = 0
    sealer: str = ""
    passed_before: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """Whether SPF or a signature stands for the domain in From, and what its owner wants if not (RFC 7489)."""

    result: DMARCWord
    domain: str = ""
    wish: Wish = "none"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SenderVerdict:
    """All of it. `authentication_results` is the value of the field, folded, without its name and last CRLF."""

    spf: SPFResult
    dkim: tuple[DKIMResult, ...]
    arc: ARCResult
    dmarc: DMARCResult
    authentication_results: str
