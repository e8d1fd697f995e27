"""What each report changes, as a table: by its kind and class, the delivery's status, and what happened before."""

import pytest

from mailbbgun.bounces.report import BounceClass, FailedRecipient, MailReport, ReportKind
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.status import DELIVERED, ERROR, PENDING
from mailbbgun.return_paths.judge import LONGEST_TEXT, Happened, about_whom, decided, storable

ANN = "ann@example.com"


def failed(class_=BounceClass.HARD, enhanced="5.1.1", address=ANN, text="no such user"):
    return FailedRecipient(address, class_, "invalid_mailbox", 550, enhanced, text)


def report(kind, *recipients, **more):
    return MailReport(kind, recipients, **more)


FAILURE, DELAY, COMPLAINT, AUTO_REPLY, SUCCESS, OTHER = ReportKind
HARD, SOFT, BLOCK, UNKNOWN = BounceClass
SENT = (Happened("delivered", {"account": "main"}),)
BOUNCED = Happened("bounced", {"returned": True})
TABLE = [
    # report, status, what happened, proved → kind, ends, suppress
    (report(FAILURE, failed()), DELIVERED, SENT, True, (Kind.BOUNCED, True, "bounced")),
    (report(FAILURE, failed(HARD, None)), DELIVERED, SENT, True, (Kind.BOUNCED, True, "bounced")),
    (report(FAILURE, failed(HARD, "5.7.1")), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    (report(FAILURE, failed(HARD, "4.7.0")), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    (report(FAILURE, failed(SOFT, "5.2.2")), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    (report(FAILURE, failed(BLOCK)), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    (report(FAILURE, failed(UNKNOWN)), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    (report(FAILURE), DELIVERED, SENT, True, (Kind.BOUNCED, True, None)),
    # The same report again, and one that comes when the delivery has ended otherwise.
    (report(FAILURE, failed()), ERROR, (BOUNCED, *SENT), True, None),
    (report(FAILURE, failed()), ERROR, (Happened("bounced", {"code": 550}),), True, (Kind.RETURNED, False, "bounced")),
    (report(FAILURE, failed()), PENDING, (), True, (Kind.RETURNED, False, "bounced")),
    (report(FAILURE, failed()), PENDING, (Happened("returned", {"report": "failure"}),), True, None),
    # It was retried by a person, arrived, and came back once more.
    (report(FAILURE, failed()), DELIVERED, (*SENT, BOUNCED), True, (Kind.BOUNCED, True, "bounced")),
    (report(DELAY, failed(SOFT, "4.4.1")), DELIVERED, SENT, True, (Kind.DELAYED, False, None)),
    (report(DELAY, failed()), DELIVERED, SENT, True, (Kind.DELAYED, False, None)),
    (report(DELAY, failed()), DELIVERED, (Happened("delayed", {}),), True, None),
    (report(COMPLAINT, feedback_type="abuse"), DELIVERED, SENT, True, (Kind.COMPLAINED, False, "complained")),
    (report(COMPLAINT), ERROR, SENT, True, (Kind.COMPLAINED, False, "complained")),
    (report(COMPLAINT), DELIVERED, (Happened("complained", {}),), True, None),
    (report(COMPLAINT, feedback_type="Not-Spam"), DELIVERED, SENT, True, (Kind.RETURNED, False, None)),
    (report(COMPLAINT, feedback_type="auth-failure"), DELIVERED, SENT, True, (Kind.RETURNED, False, None)),
    (report(AUTO_REPLY), DELIVERED, SENT, True, (Kind.RETURNED, False, None)),
    (report(AUTO_REPLY), DELIVERED, (Happened("returned", {"report": "auto_reply"}),), True, None),
    (report(AUTO_REPLY), DELIVERED, (Happened("returned", {"report": "other"}),), True, (Kind.RETURNED, False, None)),
    (report(SUCCESS, failed()), DELIVERED, SENT, True, (Kind.RETURNED, False, None)),
    (report(OTHER), DELIVERED, SENT, True, (Kind.RETURNED, False, None)),
    # Nothing proves these.
    (report(FAILURE, failed()), DELIVERED, SENT, False, (Kind.RETURNED, False, None)),
    (report(DELAY, failed()), DELIVERED, SENT, False, (Kind.RETURNED, False, None)),
    (report(COMPLAINT, failed()), DELIVERED, SENT, False, (Kind.RETURNED, False, None)),
    (report(COMPLAINT, failed()), DELIVERED, (Happened("returned", {"report": "complaint"}),), False, None),
    (report(AUTO_REPLY), DELIVERED, SENT, False, None),
    (report(OTHER), DELIVERED, SENT, False, None),
]


@pytest.mark.parametrize(("given", "status", "happened", "proved", "expected"), TABLE)
def test_a_report_changes_what_the_table_says(given, status, happened, proved, expected):
    found = decided(given, ANN, status, happened, proved=proved)
    assert (found and (found.kind, found.ends, found.suppress)) == expected


def test_the_event_of_a_bounce_has_cause_class_codes_words_and_account():
    found = decided(report(FAILURE, failed(text="no\0 such\r\n user")), ANN, DELIVERED, SENT, proved=True)
    assert found.data == {
        "reply": "no\N{REPLACEMENT CHARACTER} such user",
        "feedback_type": None,
        "class": "hard",
        "cause": "invalid_mailbox",
        "code": 550,
        "enhanced": "5.1.1",
        "reason": "bounced",
        "returned": True,
        "account": "main",
    }


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("smtp; 550 5.1.1 no such user", "no such user"),
        ("SMTP;550-5.1.1 no such user", "no such user"),
        ("550 no such user", "no such user"),
        ("5.1.1 no such user", "no such user"),
        ("x-unix; 550 no such user", "x-unix; 550 no such user"),
        ("smtp; 551 5.1.6 moved", "551 5.1.6 moved"),  # not the codes of the event
        ("smtp;", None),
    ],
)
def test_the_words_of_a_reply_are_kept_without_its_type_and_its_codes(text, reply):
    found = decided(report(FAILURE, failed(text=text)), ANN, DELIVERED, SENT, proved=True)
    assert (found.data["code"], found.data["enhanced"], found.data["reply"]) == (550, "5.1.1", reply)


def test_the_recipient_counts_that_the_delivery_is_to_and_else_the_first():
    others = failed(SOFT, address="Bob@example.com"), failed(HARD, address="ANN@example.com")
    assert about_whom(others, ANN).class_ is HARD
    assert about_whom(others, "forwarded@example.org").class_ is SOFT
    assert about_whom((), ANN) is None


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\x1b[31m", "\u202e", "x" * 10_000, " \n\t ", "\x85", "é 💥"])
def test_words_of_strangers_can_be_stored_and_printed(text):
    found = storable(text)
    assert len(found) <= LONGEST_TEXT
    assert found.isprintable()
    found.encode()
