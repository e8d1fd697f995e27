"""What happens to a message, by what was found and by the policy of the recipient's domain."""

from dataclasses import replace

import pytest

from mailbbgun.verification.policy import Decision, ReceivedMailPolicy, Treatment, together
from mailbbgun.verification.rspamd import SpamVerdict
from mailbbgun.verification.scan import ContentVerdict
from mailbbgun.verification.verdict import ARCResult, DMARCResult, SenderVerdict, SPFResult

SENDER = SenderVerdict(SPFResult("none", "", "mailfrom"), (), ARCResult("none"), DMARCResult("none"), "")
CLEAN = ContentVerdict()
ACCEPT, QUARANTINE, DEFER, REJECT = Treatment


def dmarc(result: str, wish: str) -> SenderVerdict:
    return replace(SENDER, dmarc=DMARCResult(result, "example.com", wish))


def spam(action: str) -> ContentVerdict:
    return ContentVerdict(spam=SpamVerdict(9.5, 15, action))


@pytest.mark.parametrize(
    ("sender", "content", "none", "quarantine", "reject"),
    [
        (SENDER, CLEAN, ACCEPT, ACCEPT, ACCEPT),
        (dmarc("pass", "reject"), CLEAN, ACCEPT, ACCEPT, ACCEPT),
        (dmarc("none", "none"), CLEAN, ACCEPT, ACCEPT, ACCEPT),
        (dmarc("permerror", "none"), CLEAN, ACCEPT, QUARANTINE, QUARANTINE),
        (dmarc("fail", "none"), CLEAN, ACCEPT, ACCEPT, ACCEPT),
        (dmarc("fail", "quarantine"), CLEAN, ACCEPT, QUARANTINE, QUARANTINE),
        (dmarc("fail", "reject"), CLEAN, ACCEPT, QUARANTINE, REJECT),
        (dmarc("temperror", "reject"), CLEAN, ACCEPT, ACCEPT, DEFER),
        (dmarc("temperror", "quarantine"), CLEAN, ACCEPT, ACCEPT, ACCEPT),
        (SENDER, spam("accept"), ACCEPT, ACCEPT, ACCEPT),
        (SENDER, spam("quarantine"), ACCEPT, QUARANTINE, QUARANTINE),
        (SENDER, spam("defer"), ACCEPT, ACCEPT, DEFER),
        (SENDER, spam("reject"), ACCEPT, QUARANTINE, REJECT),
        (dmarc("fail", "reject"), spam("quarantine"), ACCEPT, QUARANTINE, REJECT),
        (dmarc("fail", "quarantine"), spam("reject"), ACCEPT, QUARANTINE, REJECT),
        (dmarc("fail", "quarantine"), spam("defer"), ACCEPT, QUARANTINE, DEFER),
        (dmarc("temperror", "reject"), spam("reject"), ACCEPT, QUARANTINE, REJECT),
        (SENDER, ContentVerdict(virus="Eicar"), REJECT, REJECT, REJECT),
        (SENDER, ContentVerdict(deferred="Later."), DEFER, DEFER, DEFER),
        (SENDER, ContentVerdict(unchecked=("spam filter",)), ACCEPT, ACCEPT, ACCEPT),
    ],
)
def test_the_domains_policy_is_the_most_that_is_done(
    sender: SenderVerdict, content: ContentVerdict, none: Treatment, quarantine: Treatment, reject: Treatment
) -> None:
    policy = ReceivedMailPolicy()
    for name, wanted in (("none", none), ("quarantine", quarantine), ("reject", reject)):
        found = policy.decide(sender, content, name)
        assert found.treatment is wanted, name
        assert bool(found.reply) is (wanted in (DEFER, REJECT))


def test_a_refusal_says_why() -> None:
    policy = ReceivedMailPolicy()
    assert policy.decide(dmarc("fail", "reject"), CLEAN, "reject").reply.startswith("550 5.7.26 example.com")
    assert policy.decide(dmarc("temperror", "reject"), CLEAN, "reject").reply.startswith("451 4.7.24 ")
    assert policy.decide(SENDER, ContentVerdict(virus="Eicar\n250"), "none").reply == (
        "550 5.7.1 The message has a virus (Eicar 250)."
    )
    assert policy.decide(SENDER, spam("reject"), "reject").reply.startswith("550 5.7.1 ")
    assert policy.decide(SENDER, spam("quarantine"), "none").reason == "The spam filter gives 9.5 of 15."


def test_the_word_of_a_trusted_forwarder_counts() -> None:
    forwarded = replace(dmarc("fail", "reject"), arc=ARCResult("pass", 1, "lists.example.com", True))
    trusting = ReceivedMailPolicy(["Lists.example.com"])
    assert trusting.decide(forwarded, CLEAN, "reject").treatment is ACCEPT
    assert ReceivedMailPolicy().decide(forwarded, CLEAN, "reject").treatment is REJECT
    for arc in (
        ARCResult("fail", 1, "lists.example.com", True),
        ARCResult("pass", 1, "lists.example.com", False),
        ARCResult("pass", 1, "evil.test", True),
    ):
        assert trusting.decide(replace(forwarded, arc=arc), CLEAN, "reject").treatment is REJECT


def test_recipients_at_several_domains_get_one_reply_and_nobody_loses_mail() -> None:
    accepted, kept = Decision(ACCEPT), Decision(QUARANTINE)
    refused = ReceivedMailPolicy().decide(dmarc("fail", "reject"), CLEAN, "reject")
    deferred = ReceivedMailPolicy().decide(SENDER, spam("defer"), "reject")
    assert together({"a": accepted, "b": kept}) == (None, {"a": ACCEPT, "b": QUARANTINE})
    assert together({"a": refused, "b": refused}) == (refused.reply, {})
    assert together({"a": accepted, "b": refused}) == (None, {"a": ACCEPT, "b": QUARANTINE})
    assert together({"a": accepted, "b": deferred}) == (deferred.reply, {})
    assert together({"a": refused, "b": deferred}) == (deferred.reply, {})
