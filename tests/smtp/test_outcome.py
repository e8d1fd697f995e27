"""The table of row R19: the outcome for each code, enhanced code and phase."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Phase, Refused, TooMany, Unknown, classify, retry_after
from mailbbgun.smtp.reply import Reply

KINDS = {
    "delivered": Delivered,
    "deferred": Deferred,
    "bounced": Bounced,
    "unknown": Unknown,
    "refused": Refused,
    "split": TooMany,
}

# phase   code  enhanced  outcome    text ("-": none)
TABLE = """
dns       0     4.4.3     deferred   SERVFAIL
dns       0     5.1.2     bounced    no such domain
dns       0     5.1.10    bounced    null MX
dns       0     -         deferred   something else
connect   0     4.4.1     deferred   connection refused
tls       0     4.4.2     deferred   connection reset
banner    0     4.4.2     deferred   timed out
banner    220   -         deferred   ready
banner    421   4.3.2     deferred   closing
banner    421   -         deferred   too many connections
banner    450   4.7.1     deferred   slow down
banner    451   -         deferred   later
banner    500   -         deferred   what
banner    521   -         deferred   does not accept mail
banner    521   5.3.2     deferred   host does not accept mail
banner    530   5.7.0     deferred   go away
banner    550   5.7.1     deferred   listed
banner    554   -         deferred   no SMTP service here
banner    554   5.7.1     deferred   listed at a blocklist
banner    556   5.1.10    deferred   null MX
ehlo      0     4.4.2     deferred   closed
ehlo      421   4.7.0     deferred   closing
ehlo      450   4.7.1     deferred   cannot find your host
ehlo      500   5.5.2     deferred   unrecognised
ehlo      501   5.5.4     deferred   bad name
ehlo      521   -         deferred   no mail
ehlo      530   5.7.1     deferred   encryption needed
ehlo      550   5.7.1     deferred   HELO refused
ehlo      554   -         deferred   no
starttls  421   4.7.0     deferred   closing
starttls  454   4.7.0     refused    TLS not available
starttls  454   -         refused    TLS not available
starttls  450   -         refused    no
starttls  500   5.5.1     refused    what
starttls  501   5.5.4     refused    no parameters
starttls  502   5.5.1     refused    not implemented
starttls  503   5.5.1     refused    bad sequence
starttls  554   5.7.3     refused    no
tls       0     5.7.5     bounced    only our own words can say this
auth      0     4.4.2     deferred   closed
auth      421   4.7.0     deferred   closing
auth      432   4.7.12    refused    password transition needed
auth      450   4.3.0     deferred   later
auth      451   4.3.0     deferred   later
auth      454   4.7.0     refused    temporary authentication failure
auth      454   -         refused    temporary authentication failure
auth      500   5.5.2     refused    line too long
auth      500   5.5.6     refused    line too long
auth      501   5.5.2     refused    cannot decode
auth      502   5.5.1     refused    no such command
auth      503   5.5.1     refused    already
auth      504   5.5.4     refused    mechanism unknown
auth      523   5.7.10    refused    encryption needed
auth      525   5.7.13    refused    account disabled
auth      530   5.7.0     refused    authentication required
auth      534   5.7.9     refused    mechanism too weak
auth      535   -         refused    wrong
auth      535   5.7.8     refused    wrong
auth      535   5.7.3     refused    unsuccessful
auth      535   4.7.8     refused    wrong
auth      538   5.7.11    refused    encryption required
auth      550   5.7.1     refused    disabled
auth      554   5.7.8     refused    wrong
mail      0     4.4.2     deferred   closed
mail      421   4.3.0     deferred   closing
mail      421   5.0.0     deferred   closing
mail      421   -         deferred   closing
mail      450   4.1.8     deferred   sender's domain not found
mail      451   4.3.0     deferred   local error
mail      451   4.7.1     deferred   greylisted
mail      452   4.3.1     deferred   no space
mail      452   4.5.3     split      too many recipients said early
mail      454   4.7.0     deferred   no TLS now
mail      455   -         deferred   cannot accommodate parameters
mail      458   -         deferred   unknown 4yz
mail      500   5.5.2     bounced    syntax
mail      501   5.1.7     bounced    bad sender
mail      501   5.5.4     bounced    bad parameter
mail      502   5.5.1     bounced    not implemented
mail      503   5.5.1     bounced    bad sequence
mail      503   -         refused    need AUTH command
mail      504   5.5.4     bounced    parameter not implemented
mail      521   5.3.2     bounced    no mail here
mail      523   5.7.10    refused    encryption needed
mail      525   5.7.13    bounced    sender's account disabled
mail      550   5.7.8     refused    credentials invalid
mail      530   5.7.0     refused    authentication required
mail      530   5.7.0     refused    must issue STARTTLS first
mail      530   -         refused    authenticate
mail      530   5.7.57    refused    client was not authenticated
mail      534   5.7.9     refused    too weak
mail      535   5.7.8     refused    wrong
mail      538   5.7.11    refused    encryption
mail      550   5.1.8     bounced    sender's domain does not exist
mail      550   5.7.1     bounced    sender refused
mail      550   5.7.1     refused    authentication required
mail      550   -         refused    you must authenticate first
mail      550   5.7.26    bounced    unauthenticated mail, authentication required
mail      550   5.7.10    refused    encryption needed
mail      550   4.7.1     bounced    the code decides
mail      552   5.2.2     bounced    over quota
mail      552   5.3.4     bounced    too big
mail      552   5.5.3     split      too many recipients said early
mail      553   5.1.7     bounced    sender not allowed
mail      553   5.6.7     bounced    SMTPUTF8
mail      554   5.7.1     bounced    policy
mail      554   5.5.1     refused    please log in first
mail      555   5.5.4     bounced    parameters unknown
mail      556   5.1.10    bounced    null MX
mail      599   -         bounced    unknown 5yz
mail      354   -         deferred   out of step
rcpt      0     4.4.2     deferred   closed
rcpt      421   4.4.2     deferred   closing
rcpt      421   4.5.3     split      closing, too many recipients
rcpt      421   -         split      too many recipients
rcpt      450   -         deferred   mailbox busy
rcpt      450   4.1.1     deferred   unknown for now
rcpt      450   4.2.0     deferred   greylisted
rcpt      450   4.2.1     deferred   receiving too fast
rcpt      450   4.2.2     deferred   over quota
rcpt      450   5.1.1     deferred   the code decides
rcpt      450   5.7.1     deferred   the code decides
rcpt      450   4.5.3     split      too many
rcpt      450   -         split      too many recipients
rcpt      451   4.7.1     deferred   greylisted
rcpt      451   4.4.3     deferred   DNS
rcpt      451   4.5.3     split      too many recipients
rcpt      451   4.7.1     deferred   too many recipients this hour
rcpt      452   4.5.3     split      too many recipients
rcpt      452   5.5.3     split      too many recipients
rcpt      452   -         split      Too many recipients received this hour
rcpt      452   -         split      too many rcpts
rcpt      452   -         deferred   insufficient storage
rcpt      452   4.2.2     deferred   over quota
rcpt      452   4.3.1     deferred   no space
rcpt      454   4.7.1     deferred   relay access denied
rcpt      454   -         deferred   TLS
rcpt      455   -         deferred   parameters
rcpt      471   -         deferred   unknown 4yz
rcpt      500   5.5.2     bounced    syntax
rcpt      501   5.1.3     bounced    bad address
rcpt      503   5.5.1     bounced    MAIL first
rcpt      503   5.5.1     refused    authentication required
rcpt      521   5.3.2     bounced    no mail
rcpt      525   5.7.13    bounced    recipient's account disabled
rcpt      530   5.7.0     refused    authentication required
rcpt      550   -         refused    relay not permitted, authentication required
rcpt      550   5.7.1     bounced    RESOLVER.RST.AuthRequired; authentication required
rcpt      530   5.7.1     refused    client was not authenticated
rcpt      535   5.7.8     refused    wrong
rcpt      538   5.7.11    refused    encryption
rcpt      550   -         bounced    no such user
rcpt      550   5.0.0     bounced    no
rcpt      550   5.1.0     bounced    address rejected
rcpt      550   5.1.1     bounced    no such user
rcpt      550   5.1.2     bounced    bad domain
rcpt      550   5.1.6     bounced    has moved
rcpt      550   5.1.10    bounced    null MX
rcpt      550   5.2.1     bounced    disabled
rcpt      550   5.4.1     bounced    access denied
rcpt      550   5.5.3     split      too many recipients
rcpt      550   5.7.1     bounced    relaying denied
rcpt      550   5.7.133   bounced    authentication required; sender not authenticated for group
rcpt      550   5.7.13    bounced    user disabled
rcpt      550   4.1.1     bounced    the code decides
rcpt      550   4.2.1     bounced    the code decides
rcpt      551   5.1.6     bounced    user not local
rcpt      551   -         bounced    user not local
rcpt      552   5.5.3     split      too many recipients
rcpt      552   4.5.3     split      too many recipients
rcpt      552   -         split      too many recipients
rcpt      552   5.2.2     bounced    mailbox full
rcpt      552   5.2.3     bounced    too big
rcpt      552   5.3.4     bounced    too big
rcpt      552   -         bounced    exceeded storage
rcpt      552   4.2.2     bounced    the code decides
rcpt      552   5.1.1     bounced    too many recipients, it says, but 5.1.1
rcpt      553   5.1.3     bounced    name not allowed
rcpt      553   5.7.1     bounced    relaying
rcpt      554   5.7.1     bounced    relay access denied
rcpt      554   -         split      too many recipients
rcpt      556   5.1.10    bounced    null MX
rcpt      577   -         bounced    unknown 5yz
rcpt      354   -         deferred   out of step
data      0     4.4.2     deferred   closed
data      250   2.0.0     deferred   out of step, nothing was sent
data      421   4.3.0     deferred   closing
data      451   4.3.0     deferred   later
data      451   4.7.1     deferred   greylisted
data      452   4.3.1     deferred   no space
data      500   5.5.2     bounced    what
data      503   5.5.1     bounced    bad sequence
data      530   5.7.0     refused    authentication required
data      550   5.7.1     bounced    policy
data      550   5.7.1     refused    authentication required
data      554   5.5.1     bounced    no valid recipients
data      554   5.7.1     bounced    policy
data      554   5.7.9     bounced    Message not accepted for policy reasons
body      0     4.4.2     deferred   closed
body      250   2.0.0     deferred   before the dot nothing is accepted
body      421   4.4.2     deferred   timeout
body      451   4.3.0     deferred   local error
body      452   4.3.1     deferred   disk full
body      552   5.3.4     bounced    too big
body      554   5.6.0     bounced    content
dot       200   -         delivered  odd but positive
dot       250   -         delivered  ok
dot       250   2.0.0     delivered  queued
dot       250   2.6.0     delivered  queued
dot       250   4.0.0     delivered  the code decides
dot       250   5.7.1     delivered  the code decides
dot       251   -         delivered  will forward
dot       252   2.0.0     delivered  cannot verify
dot       299   -         delivered  unknown 2yz
dot       354   -         unknown    asked for a message again
dot       334   -         unknown    asked for a password
dot       199   -         unknown    there is no 1yz
dot       600   -         unknown    there is no 6yz
dot       0     4.4.2     deferred   the dot never left
dot       421   -         deferred   closing
dot       421   4.3.0     deferred   closing
dot       421   2.0.0     deferred   the code decides
dot       432   -         deferred   only a matter of AUTH
dot       450   4.7.0     deferred   later
dot       451   4.3.0     deferred   local error
dot       451   4.7.1     deferred   greylisted
dot       451   5.7.1     deferred   the code decides
dot       452   4.3.1     deferred   no space
dot       452   4.5.3     split      too many recipients
dot       454   -         deferred   not at AUTH
dot       499   -         deferred   unknown 4yz
dot       500   -         bounced    line too long
dot       521   -         bounced    no mail
dot       530   5.7.0     refused    authentication required
dot       550   5.7.1     bounced    policy
dot       550   5.7.1     bounced    authentication required: SPF failed
dot       550   5.7.26    bounced    unauthenticated
dot       550   5.7.509   bounced    DMARC
dot       550   4.7.1     bounced    the code decides
dot       550   2.0.0     bounced    the code decides
dot       552   5.2.2     bounced    mailbox full
dot       552   5.3.4     bounced    too big
dot       552   5.5.3     split      too many recipients
dot       554   -         split      Transaction failed: Recipient count exceeds 50
dot       554   5.7.1     split      too many recipients
data      554   5.5.3     split      too many recipients
body      552   5.5.3     split      too many recipients
dot       553   5.6.7     bounced    SMTPUTF8
dot       554   5.6.0     bounced    content
dot       554   5.7.1     bounced    spam
dot       554   -         bounced    transaction failed
dot       555   -         bounced    parameters
dot       559   -         bounced    unknown 5yz
rset      421   -         deferred   closing
rset      500   -         deferred   what
rset      0     4.4.2     deferred   closed
quit      500   -         deferred   what
mail      199   -         deferred   there is no 1yz
rcpt      600   -         deferred   there is no 6yz
data      999   -         deferred   nonsense
"""

ROWS = [line.split(None, 4) for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("phase", "code", "enhanced", "expected", "text"), ROWS, ids=[" ".join(r[:3]) for r in ROWS])
def test_a_reply_means_what_the_oracle_says(phase: str, code: str, enhanced: str, expected: str, text: str) -> None:
    outcome = classify(Phase(phase), Reply(int(code), None if enhanced == "-" else enhanced, text))
    assert type(outcome) is KINDS[expected]


@pytest.mark.parametrize(
    ("phase", "line", "kind"),
    [
        ("mail", "452 4.5.3 too many", Deferred),
        ("mail", "552 5.5.3 too many", Bounced),
        ("rcpt", "452 4.5.3 too many", Deferred),
        ("rcpt", "550 5.5.3 too many", Deferred),
        ("dot", "554 5.5.3 too many", Bounced),
        ("dot", "452 4.5.3 too many", Deferred),
    ],
)
def test_one_recipient_alone_is_never_too_many(phase: str, line: str, kind: type) -> None:
    code, enhanced, text = line.split(" ", 2)
    assert type(classify(Phase(phase), Reply(int(code), enhanced, text), alone=True)) is kind


def test_the_oracle_has_at_least_150_distinct_rows() -> None:
    assert len({tuple(row) for row in ROWS}) >= 150


@given(st.sampled_from(Phase), st.integers(1, 999), st.none() | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}"), st.text())
def test_any_reply_gets_an_outcome_and_only_a_dot_delivers(
    phase: Phase, code: int, enhanced: str | None, text: str
) -> None:
    outcome = classify(phase, Reply(code, enhanced, text))
    assert isinstance(outcome, Delivered) == (phase is Phase.DOT and 200 <= code < 300)
    assert isinstance(outcome, Bounced) <= (500 <= code < 600)
    assert isinstance(outcome, Unknown) <= (phase is Phase.DOT)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Greylisted, please try again in 5 minutes", 300.0),
        ("greylisting in action, please come back in 00:04:57", 297.0),
        ("Greylisted for 300 seconds", 300.0),
        ("try again later in 2 hours", 7200.0),
        ("Please retry in 10 min", 600.0),
        ("wait 90s", 90.0),
        ("retry after 5 seconds", 60.0),
        ("try again in 900000 seconds", 86_400.0),
        ("please try again later", None),
        ("try again later. You sent 500 messages in 60 minutes", None),
        ("Mailbox full; limit of 10 minutes", None),
        ("4 hours", None),
        ("", None),
    ],
)
def test_a_server_naming_a_time_is_obeyed_within_a_minute_and_a_day(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds
    outcome = classify(Phase.RCPT, Reply(451, "4.7.1", text))
    assert outcome == Deferred(Reply(451, "4.7.1", text), Phase.RCPT, seconds)
