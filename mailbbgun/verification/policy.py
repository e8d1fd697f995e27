"""Decides what happens to a received message at the domain of a recipient. Pure.

The domain's policy is the most that is done there: ``none`` only marks mail, ``quarantine`` never refuses any,
``reject`` does all that the sender's domain and the spam filter ask for. A message with a virus is refused everywhere.
"""

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import NamedTuple, Self

from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.reply import safe
from mailbbgun.verification.scan import ContentVerdict
from mailbbgun.verification.verdict import SenderVerdict, Wish


class Treatment(IntEnum):
    """What happens to a message, the mildest first."""

    ACCEPT = 0
    QUARANTINE = 1
    DEFER = 2
    REJECT = 3


class Decision(NamedTuple):
    """A treatment, and the reply to DATA that goes with it, in one line; that to an accepted message is the door's.

    ``reason`` is for the log, and for people who look at the quarantine.
    """

    treatment: Treatment
    reply: str | None = None
    reason: str = ""


#: Characters of a reply.
_LONGEST = 400

_ACCEPTED = Decision(Treatment.ACCEPT)

#: Severity of a domain's policy.
_POLICIES: dict[Wish, Treatment] = {
    "none": Treatment.ACCEPT,
    "quarantine": Treatment.QUARANTINE,
    "reject": Treatment.REJECT,
}


class ReceivedMailPolicy:
    """Knows which forwarders are trusted.

    ``trusted_sealers`` are domains of forwarders, such as mailing lists, whose word about DMARC counts if their seal
    is valid (RFC 8617 §7.2.1).
    """

    def __init__(self, trusted_sealers: Collection[str] = ()) -> None:
        self._trusted = frozenset(one.lower() for one in trusted_sealers)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the policy of the settings."""
        return cls(settings.ARC_TRUSTED_SEALERS)

    def decide(self, sender: SenderVerdict, content: ContentVerdict, policy: Wish) -> Decision:
        """Return what happens to a message at a local domain with this policy."""
        if content.virus:
            text = f"The message has a virus ({content.virus})."
            return Decision(Treatment.REJECT, _line("550 5.7.1", text), text)
        if content.deferred:
            return Decision(Treatment.DEFER, _line("451 4.7.1", content.deferred), content.deferred)
        wanted = (self._for_dmarc(sender), _for_spam(content))
        return max((_at_most(policy, one) for one in wanted), key=lambda one: (one.treatment, bool(one.reason)))

    def _for_dmarc(self, sender: SenderVerdict) -> Decision:
        dmarc, arc = sender.dmarc, sender.arc
        if dmarc.result == "temperror" and dmarc.wish == "reject":
            text = f"The sender {dmarc.domain} cannot be verified now."
            return Decision(Treatment.DEFER, _line("451 4.7.24", text), text)
        if dmarc.result == "permerror":  # or whoever writes five domains in From would be judged by none
            return Decision(Treatment.QUARANTINE, None, f"DMARC cannot judge who sent it: {dmarc.reason}.")
        if dmarc.result != "fail" or dmarc.wish == "none":
            return _ACCEPTED
        if arc.result == "pass" and arc.passed_before and arc.sealer in self._trusted:
            return _ACCEPTED
        reason = f"DMARC of {dmarc.domain} fails, and its owner asks for {dmarc.wish}."
        if dmarc.wish == "quarantine":
            return Decision(Treatment.QUARANTINE, None, reason)
        text = f"{dmarc.domain} does not permit this message (DMARC)."
        return Decision(Treatment.REJECT, _line("550 5.7.26", text), reason)


def _at_most(policy: Wish, wanted: Decision) -> Decision:
    """Return what a domain with this policy does of what is wanted."""
    if wanted.treatment <= _POLICIES[policy]:
        return wanted
    if wanted.treatment is Treatment.DEFER:  # it may be genuine, and this domain refuses nothing
        return Decision(Treatment.ACCEPT, None, wanted.reason)
    return Decision(_POLICIES[policy], None, wanted.reason)


def _line(codes: str, text: str) -> str:
    """Return a reply of ASCII that fits into a line (RFC 5321 §4.5.3.1.5)."""
    return f"{codes} {safe(text)}".encode("ascii", "replace").decode()[:_LONGEST]


def _for_spam(content: ContentVerdict) -> Decision:
    spam = content.spam
    if spam is None or spam.action == "accept":
        return _ACCEPTED
    reason = f"The spam filter gives {spam.score:g} of {spam.required:g}."
    if spam.action == "quarantine":
        return Decision(Treatment.QUARANTINE, None, reason)
    if spam.action == "defer":
        return Decision(Treatment.DEFER, _line("451 4.7.1", spam.text or "Try again later."), reason)
    return Decision(Treatment.REJECT, _line("550 5.7.1", spam.text or "The message looks like spam."), reason)


def together(decisions: Mapping[str, Decision]) -> tuple[str | None, dict[str, Treatment]]:
    """Return the one reply to DATA for recipients at several domains, and what happens at each.

    With a reply, nothing is accepted. If one domain takes a message that another refuses, the other has it in
    quarantine: SMTP has one reply for all, and no mail about it goes to a sender who is probably forged.
    """
    replies = [one.reply for one in decisions.values() if one.treatment is Treatment.DEFER]
    if not replies and all(one.treatment is Treatment.REJECT for one in decisions.values()):
        replies = [one.reply for one in decisions.values()]
    if replies:
        return replies[0], {}
    kept = {domain: min(one.treatment, Treatment.QUARANTINE) for domain, one in decisions.items()}
    return None, {domain: Treatment(treatment) for domain, treatment in kept.items()}
