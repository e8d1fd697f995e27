"""The table of causes: words first, then the enhanced code, then the three digits."""

import pytest

from mailbbgun.bounces.causes import CAUSES, CODES, ENHANCED
from mailbbgun.bounces.classify import classify_reply, codes_in, in_reply_to
from mailbbgun.bounces.patterns import PATTERNS
from mailbbgun.bounces.report import BounceClass
from mailbbgun.explain.replies import means

# code  enhanced  cause                  text
TABLE = """
550     5.1.1     invalid_mailbox        No such user here
550     -         invalid_mailbox        The user ann@example.net does not exist
550     -         invalid_mailbox        Adresse inconnue
550     5.1.1     invalid_mailbox        x
542     5.0.0     invalid_mailbox        542 ann@example.net Rejected
550     5.1.2     invalid_domain         Host unknown
0       5.1.2     invalid_domain         no such domain
0       5.1.10    no_mail_accepted       the domain has a null MX
556     -         no_mail_accepted       x
551     5.1.6     mailbox_moved          The recipient has moved
552     5.2.2     mailbox_full           x
452     4.2.2     mailbox_full           The user is over quota
550     -         mailbox_full           Quota exceeded (mailbox for user is full)
552     -         mailbox_full           x
550     5.2.1     mailbox_disabled       The account is disabled
451     4.7.1     greylisted             Greylisted, please try again in 300 seconds
450     4.2.1     throttled              The user is receiving mail at a rate that is too high
421     4.7.0     too_many_connections   Too many concurrent SMTP connections
552     5.3.4     message_too_big        Message size exceeds fixed limit
550     5.7.26    authentication         This mail has been blocked because the sender is unauthenticated (DMARC)
550     5.7.1     no_reverse_dns         Fix reverse DNS for 192.0.2.1
554     5.7.1     reputation             Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org
550     5.7.1     spam                   Message looks like spam
554     -         virus                  Virus detected
554     5.7.1     relaying_denied        Relay access denied
550     5.1.8     sender_rejected        Sender address rejected: domain not found
550     5.7.1     policy                 Not allowed
550     5.7.1     policy                 User unknown
554     5.4.6     routing_loop           Too many hops
451     4.3.0     system_error           Temporary local problem
421     4.4.2     network_error          Connection timed out
450     -         temporary_failure      x
450     4.1.1     temporary_failure      x
550     -         unknown                x
"""
ROWS = [(line.split(None, 3)) for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("code", "enhanced", "cause", "text"), ROWS, ids=[" ".join(row) for row in ROWS])
def test_each_reply_has_its_cause(code, enhanced, cause, text):
    found = classify_reply(int(code) or None, None if enhanced == "-" else enhanced, text)
    assert (found.reason, found.class_) == (cause, CAUSES[cause])


@pytest.mark.parametrize("subject", range(0, 40))
def test_a_refusal_for_security_or_policy_is_never_hard(subject):
    for first in ("4", "5"):
        assert classify_reply(550, f"{first}.7.{subject}", "No such user").class_ is not BounceClass.HARD


def test_what_a_server_answers_to_counts():
    text = "Unknown user ann@example.net"
    assert classify_reply(550, None, in_reply_to(text, "RCPT TO")).reason == "invalid_mailbox"
    assert classify_reply(550, None, in_reply_to(text, "end of DATA")).reason == "recipient_refuses"
    assert classify_reply(550, None, in_reply_to("User unknown", "MAIL FROM")).reason == "sender_rejected"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("smtp; 550 5.1.1 No such user", (550, "5.1.1")),
        ("550-5.7.1 two lines 550 5.7.1 of them", (550, "5.7.1")),
        ("5.1.0 - Unknown address error 550-'5.7.1 denied'", (550, "5.7.1")),
        ("sorry (#5.1.1)", (None, "5.1.1")),
        ("host 192.0.2.5 port 587 version 5.1.1.2", (None, None)),
        ("", (None, None)),
    ],
)
def test_codes_are_found_in_words(text, codes):
    assert codes_in(text) == codes


def test_all_tables_name_known_causes_and_each_is_explained():
    assert {reason for _, reason in PATTERNS} | {*ENHANCED.values()} | {*CODES.values()} <= set(CAUSES)
    assert [one for one in CAUSES if not means(one)[0]] == ["temporary_failure", "unknown"]
