"""Forms of notices that are rarer: services, names, lists, and what people forward."""

import pytest

from mailbbgun.bounces.read import read
from mailbbgun.bounces.report import BounceClass, ReportKind
from tests.bounces.letters import ORIGINAL, dsn, notice

HARD, BLOCK = BounceClass.HARD, BounceClass.BLOCK


@pytest.mark.parametrize(
    "text",
    [
        "Ask <postmaster@mx.example.net>.\n\n<postmaster@example.net>: user unknown",
        "<postmaster@example.net> (expanded from <root@example.net>): host mx said: 550 5.1.1 user unknown",
        "<postmaster@example.net> (expanded from\n    <root@example.net>): host mx said: 550 5.1.1 user unknown",
    ],
)
def test_a_service_can_be_the_recipient_that_failed(text):
    (one,) = read(notice(text)).recipients
    assert (one.address, one.class_) == ("postmaster@example.net", HARD)


def test_what_is_no_address_is_no_recipient():
    assert read(notice("<(a)@example.net>: user unknown")).recipients == ()


def test_a_report_without_an_author_is_of_a_server():
    raw = notice("--- addresses with problems ---\n<ann@example.net>  (No such user)", "Delivery Status", "<>")
    assert [one.address for one in read(raw).recipients] == ["ann@example.net"]


def test_styles_of_a_page_are_not_read():
    style = "<style>" + "a@media.example { failed: 550 }\n" * 1_000 + "</style>"
    page = (
        f"<html>{style}<p>Unable to deliver your message to<br>ann@example.net<br>because: Mailbox is full</p></html>"
    )
    raw = b"From: postmaster@x.example\nSubject: Undeliverable\nContent-Type: text/html\n\n" + page.encode()
    assert [(one.address, one.reason) for one in read(raw).recipients] == [("ann@example.net", "mailbox_full")]


def test_a_list_of_names_without_a_domain_is_read():
    text = "Your mail to the following recipients could not be delivered because they are full:\n\n  ann\n  ben\n"
    assert [one.address for one in read(notice(text)).recipients] == ["ann@mx.example.net", "ben@mx.example.net"]


def test_names_without_a_domain_are_those_of_the_mail_that_came_back():
    to = ORIGINAL.replace("To: ann@example.net", "To: ann@example.net, cis@example.org")
    text = f"Message not delivered to the following:\n\n cis    No such name\n\n--- Original message ---\n{to}"
    (one,) = read(notice(text, "Returned mail")).recipients
    assert (one.address, one.class_) == ("cis@example.org", HARD)


@pytest.mark.parametrize(
    "text",
    [
        "ann@example.org\n    (expanded from: info@example.net)\n\n554 Too many hops",
        "  ann@example.org\n    (generated from info@example.net)\n    Unrouteable address",
        "<ann@example.org> (expanded from <info@example.net>): user unknown",
    ],
)
def test_a_forwarded_recipient_has_the_address_that_the_mail_was_sent_to(text):
    (one,) = read(notice(f"The following addresses failed:\n\n{text}", "Returned mail")).recipients
    assert (one.address, one.original_address) == ("ann@example.org", "info@example.net")


def test_a_recipient_in_a_transcript_is_not_blamed_for_what_follows():
    text = (
        "   ----- Transcript of session follows -----\n554 <ann@example.net>... Remote protocol error\n"
        "550 example.org (smtp)... 550 Host unknown\n554 <ben@example.org>... 550 Host unknown\n"
    )
    told = read(notice(text, "Returned mail")).recipients
    assert [(one.address, one.class_) for one in told] == [("ann@example.net", BLOCK), ("ben@example.org", HARD)]


@pytest.mark.parametrize("name", ["List-Post: <mailto:talk@example.net>", "X-BeenThere: talk@example.net"])
def test_the_mailing_list_that_a_mail_was_sent_to_is_not_the_recipient_that_failed(name):
    original = ORIGINAL.replace("To: ann@example.net", f"To: talk@example.net\n{name}")
    raw = notice(f"It could not be delivered.\n\n--- Original message ---\n{original}", "Undelivered Mail")
    assert read(raw).recipients == ()


@pytest.mark.parametrize(
    ("author", "subject", "text", "reason"),
    [
        ("talk-admin@example.net", "Talk", "You are not a member of this list <talk@example.net>.", "sender_rejected"),
        ("talk-admin@example.net", "Loop", "Duplicated Message-ID in <talk@example.net>.", "system_error"),
        (
            "talk-bounces@example.net",
            "Your message",
            "It has been automatically rejected: members only.",
            "sender_rejected",
        ),
        ("owner-talk@example.net", "Talk", "You are not allowed to post to this mailing list.", "policy"),
    ],
)
def test_a_list_that_refuses_mail_is_the_recipient_that_failed(author, subject, text, reason):
    told = read(notice(text, subject, author))
    assert [(one.address, one.reason) for one in told.recipients] == [("talk@example.net", reason)]
    assert told.recipients[0].class_ is not HARD


@pytest.mark.parametrize(
    ("author", "text"),
    [
        ("talk-bounces@example.net", "Your message is being held: post by a non-member, only members may post."),
        ("talk-bounces@example.net", "The results of your commands:\n\n ben@example.net is not a member of Talk"),
        ("ann@example.net", "You are not a member of talk@example.net, said Ben."),
        ("talk-owner@example.net", "Welcome to talk@example.net! Please write in English."),
    ],
)
def test_other_mail_about_a_list_is_left_alone(author, text):
    assert read(notice(text, "Talk", author)).kind is ReportKind.OTHER


REPORT = (
    "From: Mail Delivery System <MAILER-DAEMON@mx.example.net>\nTo: shop@example.com\nSubject: Undelivered Mail\n\n"
    f"<ann@example.net>: 550 5.1.1 user unknown\n\n{ORIGINAL}"
)


def quoted(announced: str, mark: str = "> ") -> str:
    """Return the text of a mail that quotes the report."""
    return f"Look.\n\n{announced}\n\n" + "\n".join(f"{mark}{line}".rstrip() for line in REPORT.split("\n"))


@pytest.mark.parametrize("announced", ["Begin forwarded message:", "---------- Forwarded message ---------"])
@pytest.mark.parametrize("mark", ["> ", ""])
def test_a_report_that_a_person_forwards_in_the_text_is_read(announced, mark):
    told = read(notice(quoted(announced, mark), "Fwd: Undelivered Mail", "ben@example.com"))
    assert (told.kind, [one.address for one in told.recipients]) == ("failure", ["ann@example.net"])
    assert told.message_id_header == "<1@example.com>"


@pytest.mark.parametrize("subject", ["Re: Undelivered Mail", "Fwd: Lunch"])
def test_a_report_that_is_quoted_in_an_answer_or_of_a_person_is_left_alone(subject):
    text = quoted("-----Original Message-----")
    if subject == "Fwd: Lunch":
        text = text.replace("Mail Delivery System <MAILER-DAEMON@", "Ann <ann@")
    assert read(notice(text, subject, "ben@example.com")).kind is ReportKind.OTHER


@pytest.mark.parametrize(
    ("inner", "kind"), [(dsn(), "failure"), (dsn("delayed", "4.4.1"), "delay"), (b"a: b\n\nx", "other")]
)
def test_a_report_that_a_person_forwards_as_an_attachment_is_read(inner, kind):
    head = "From: ben@example.com\nSubject: Look\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nHello\n--x\n"
    told = read(head.encode() + b"Content-Type: message/rfc822\n\n" + inner + b"\n--x--\n")
    assert (told.kind, [one.address for one in told.recipients]) == (kind, ["ann@example.net"] * (kind != "other"))


@pytest.mark.parametrize("head", ["Subject: Re: Undelivered", "Subject: Hello\nIn-Reply-To: <1@example.com>"])
@pytest.mark.parametrize("kind", ["message/rfc822", "text/plain"])
def test_a_report_that_is_attached_to_an_answer_is_left_alone(head, kind):
    head = f"From: ben@example.com\n{head}\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nHello\n--x\n"
    fields = b"Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\nStatus: 5.1.1\n"
    inner = dsn() if kind == "message/rfc822" else fields
    told = read(head.encode() + f"Content-Type: {kind}\n\n".encode() + inner + b"\n--x--\n")
    assert (told.kind, told.recipients) == ("other", ())


def test_a_server_that_answers_to_the_subject_of_the_mail_is_understood():
    text = "*****\nYour message could not be delivered to\nann@example.net\n*****\n"
    told = read(notice(text, "RE: Invoice : non remis (delivery failed)", "relay@example.net"))
    assert [one.address for one in told.recipients] == ["ann@example.net"]
