"""What reports that came back say: the standards, the many forms beside them, and what is no report."""

import pytest

from mailbbgun.bounces.read import read
from mailbbgun.bounces.report import BounceClass, ReportKind
from tests.bounces.letters import ORIGINAL, dsn, notice, report

HARD, SOFT, BLOCK = BounceClass.HARD, BounceClass.SOFT, BounceClass.BLOCK


def test_a_notification_names_recipient_codes_cause_and_the_mail_it_is_about():
    told = read(dsn(Original_Envelope_Id="abc123"))
    (one,) = told.recipients
    assert (told.kind, told.message_id_header, told.original_envelope_id) == ("failure", "<1@example.com>", "abc123")
    assert (one.address, one.class_, one.reason) == ("ann@example.net", HARD, "invalid_mailbox")
    assert (one.code, one.enhanced) == (550, "5.1.1")
    assert "No such user" in one.text
    assert told.text == "See below."


@pytest.mark.parametrize(
    ("action", "status", "kind"),
    [
        ("failed", "5.1.1", ReportKind.FAILURE),
        ("Failed (permanent)", "5.0.0", ReportKind.FAILURE),
        ("delayed", "4.4.1", ReportKind.DELAY),
        ("delivered", "2.0.0", ReportKind.SUCCESS),
        ("relayed", "2.0.0", ReportKind.SUCCESS),
        ("expanded", "2.0.0", ReportKind.SUCCESS),
    ],
)
def test_the_action_decides_what_a_notification_is(action, status, kind):
    told = read(dsn(action, status, "smtp; it said something"))
    assert (told.kind, [one.address for one in told.recipients]) == (kind, ["ann@example.net"])


def test_a_failure_beside_a_delivery_names_only_the_recipient_that_failed():
    fields = "\n\n".join(
        f"Final-Recipient: rfc822; {name}@example.net\nAction: {action}\nStatus: {status}"
        for name, action, status in (
            ("ann", "delivered", "2.0.0"),
            ("ben", "failed", "5.2.2"),
            ("cis", "delayed", "4.0.0"),
        )
    )
    told = read(report(f"Reporting-MTA: dns; mx\n\n{fields}"))
    assert [(one.address, one.reason) for one in told.recipients] == [("ben@example.net", "mailbox_full")]


@pytest.mark.parametrize(
    ("given", "address", "original"),
    [
        ({"Final_Recipient": "RFC822; <Ann@Example.net>"}, "Ann@Example.net", None),
        ({"Final_Recipient": "rfc822;ann@example.net (Ann)"}, "ann@example.net", None),
        ({"Final_Recipient": r"utf-8; \x{E4}nn@example.net"}, "änn@example.net", None),
        (
            {"Original_Recipient": "rfc822; info@example.net", "Final_Recipient": "rfc822; ann@inside.example"},
            "ann@inside.example",
            "info@example.net",
        ),
        (
            {"Original_Recipient": "rfc822; info@example.net", "Final_Recipient": "rfc822; ann@mailstore"},
            "info@example.net",
            None,
        ),
    ],
)
def test_recipients_are_read_in_each_form(given, address, original):
    (one,) = read(dsn(**given)).recipients
    assert (one.address, one.original_address) == (address, original)


def test_a_vague_status_yields_to_the_code_in_the_diagnostic():
    (one,) = read(dsn(status="5.0.0", said="smtp; 552 5.2.2 sorry")).recipients
    assert (one.enhanced, one.reason, one.class_) == ("5.2.2", "mailbox_full", SOFT)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_line_ends_do_not_matter(ends):
    told = read(dsn().replace(b"\n", ends))
    assert (told.kind, told.recipients[0].address) == ("failure", "ann@example.net")


QMAIL = (
    """Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.

<ann@example.net>:
192.0.2.1 does not like recipient.
Remote host said: 550 sorry, no mailbox here by that name (#5.1.1)

--- Below this line is a copy of the message.

"""
    + ORIGINAL
)

EXCHANGE = """Your message

  To:      ann@example.net
  Subject: Invoice

did not reach the following recipient(s):

c=US;a= ;p=Example;o=Mail;dda:SMTP=ann@example.net; on Fri, 4 Oct 2002 17:12:28
    The recipient name is not recognized
"""

SENDMAIL = """   ----- The following addresses had permanent fatal errors -----
<ann@example.net>

   ----- Transcript of session follows -----
... while talking to mx.example.net.:
>>> RCPT To:<ann@example.net>
<<< 550 5.2.2 <ann@example.net>... Mailbox Full
"""


MESSAGING_SERVER = """This report relates to a message you sent with the following header fields:

  Message-id: <1@example.com>
  From: Shop <shop@example.com>
  To: Somebody <all@example.com>
  Subject: Invoice

Your message cannot be delivered to the following recipients:

  Recipient address: ann@example.net
  Reason: recipient reached disk quota (over quota)
"""


@pytest.mark.parametrize(
    ("text", "subject", "reason"),
    [
        (QMAIL, "failure notice", "invalid_mailbox"),
        (EXCHANGE, "Undeliverable: Invoice", "invalid_mailbox"),
        (SENDMAIL, "Returned mail: User unknown", "mailbox_full"),
        (
            "ann@example.net\n  Unrouteable address",
            "Mail delivery failed: returning message to sender",
            "invalid_domain",
        ),
        ("Failed Recipient: ann@example.net\nReason: mailbox is full", "Delivery Failure", "mailbox_full"),
        ("undeliverable to ann@example.net\n\nOriginal message follows.\n", "Undeliverable Mail", "unknown"),
        ("Die Nachricht an ann@example.net ist unzustellbar: Adresse unbekannt", "Unzustellbar", "invalid_mailbox"),
        ("<ann@example.net>: 宛先不明のため配信できません", "配信エラー", "invalid_mailbox"),
        ("Recapito non riuscito:\n\nann@example.net\nRecipNotFound", "Non recapitabile: Invoice", "invalid_mailbox"),
        ("Kan ikke leveres:\n\nann@example.net\nRecipNotFound", "Kan ikke leveres: Invoice", "invalid_mailbox"),
        ("無法傳遞\n\nann@example.net\nRecipNotFound", "未送达: Invoice", "invalid_mailbox"),
        (MESSAGING_SERVER, "Delivery Notification: Delivery has failed", "mailbox_full"),
        (
            "Recipient address: @mx.example:ann@store\nOriginal address: ann@example.net\nIt failed",
            "Failure",
            "unknown",
        ),
        ('"|/bin/x"\n    (reason: 255)\n    (expanded from: <ann@example.net>)', "Returned mail", "unknown"),
        ("pipe to |/bin/x /home/cis/.m/cis@example.org\n    ann@example.net", "Mail delivery failed", "mailer_error"),
        (f"It was not delivered.\n\n--- Original message ---\n{ORIGINAL}", "Undelivered Mail", "unknown"),
    ],
)
def test_notices_of_no_standard_are_understood(text, subject, reason):
    told = read(notice(text, subject))
    assert [(one.address, one.reason) for one in told.recipients] == [("ann@example.net", reason)]
    assert told.kind is ReportKind.FAILURE


def test_a_notice_names_the_message_that_came_back():
    assert read(notice(QMAIL)).message_id_header == "<1@example.com>"


def test_the_header_that_exim_adds_names_the_recipients():
    raw = notice(
        "A message that you sent could not be delivered.", X_Failed_Recipients="ann@example.net, ben@example.net"
    )
    assert [one.address for one in read(raw).recipients] == ["ann@example.net", "ben@example.net"]


def test_several_recipients_have_causes_of_their_own():
    text = "<ann@example.net>:\n550 5.1.1 User unknown\n\n<ben@example.net>:\n552 5.2.2 Mailbox full\n"
    assert [(one.address, one.reason) for one in read(notice(text)).recipients] == [
        ("ann@example.net", "invalid_mailbox"),
        ("ben@example.net", "mailbox_full"),
    ]


def test_a_warning_that_mail_waits_is_a_delay():
    text = "Your message to <ann@example.net> has not been delivered yet.\nWe will keep trying for 4 days."
    assert read(notice(text, "Warning: message delayed")).kind is ReportKind.DELAY


def test_user_unknown_after_data_is_no_hard_bounce():
    text = "<ann@example.net>: host mx said: 550 Unknown user ann@example.net (in reply to end of DATA command)"
    (one,) = read(notice(text)).recipients
    assert (one.class_, one.reason) == (BLOCK, "recipient_refuses")


def test_a_complaint_has_its_type_and_whose_mail_it_was():
    fields = "Feedback-Type: Abuse\nVersion: 1\nOriginal-Rcpt-To: <ann@example.net>\nOriginal-Envelope-Id: abc123"
    told = read(report(fields, kind="feedback-report"))
    assert (told.kind, told.feedback_type, told.original_envelope_id) == ("complaint", "abuse", "abc123")
    assert (told.message_id_header, told.recipients[0].address) == ("<1@example.com>", "ann@example.net")


def test_a_complaint_that_hides_the_recipient_is_matched_by_the_mail():
    told = read(report("Feedback-Type: abuse", kind="feedback-report"))
    assert [one.address for one in told.recipients] == ["ann@example.net"]


def test_a_notification_of_amazon_ses_is_read():
    text = (
        '{"notificationType":"Bounce","bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":'
        '"ann@example.net","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown"}]}}\n--\nTo stop, click.'
    )
    told = read(notice(text, "AWS Notification Message", "no-reply@sns.amazonaws.com"))
    assert (told.kind, told.recipients[0].address, told.recipients[0].class_) == ("failure", "ann@example.net", HARD)


@pytest.mark.parametrize(
    ("headers", "subject"),
    [
        ({"Auto_Submitted": "auto-replied"}, "Re: Invoice"),
        ({"X_Autoreply": "yes"}, "Re: Invoice"),
        ({"Precedence": "auto_reply"}, "Re: Invoice"),
        ({}, "Out of Office: Invoice"),
        ({}, "Automatische Antwort: Invoice"),
        ({}, "Réponse automatique : Invoice"),
        ({}, "Respuesta automática: Invoice"),
        ({}, "自動応答: Invoice"),
        ({}, "Автоответ: Invoice"),
    ],
)
def test_answers_of_machines_are_no_bounces(headers, subject):
    raw = notice("I am away until Monday. Mail to ann@example.net is not read.", subject, "ann@example.net", **headers)
    assert (read(raw).kind, read(raw).recipients) == (ReportKind.AUTO_REPLY, ())


@pytest.mark.parametrize(
    ("author", "subject", "text"),
    [
        ("ann@example.net", "Re: Invoice", "I could not open the file that ben@example.net sent."),
        ("ann@example.net", "Fwd: failure notice", "Look what came back: <ben@example.net>: 550 user unknown"),
        ("ann@example.net", "Lunch", "Unable to deliver the cake to ben@example.net today."),
        ("news@example.net", "The mailbox quota of our plans", "Write to ben@example.net."),
    ],
)
def test_mail_of_people_is_left_alone(author, subject, text):
    assert (read(notice(text, subject, author)).kind, read(notice(text, subject, author)).recipients) == ("other", ())


def test_a_receipt_that_a_person_read_it_is_no_report():
    fields = "Final-Recipient: rfc822; ann@example.net\nDisposition: manual-action/MDN-sent-manually; displayed"
    assert read(report(fields, kind="disposition-notification")).kind is ReportKind.OTHER


def test_words_in_other_charsets_and_encodings_are_read():
    raw = (
        b"From: MAILER-DAEMON@mx.example.net\nSubject: =?iso-2022-jp?b?GyRCR1s/LiUoJWkhPBsoQg==?=\n"
        b"Content-Type: text/plain; charset=iso-2022-jp\nContent-Transfer-Encoding: 7bit\n\n"
    ) + "<ann@example.net>: 見つかりません".encode("iso-2022-jp")
    (one,) = read(raw).recipients
    assert (one.address, one.reason) == ("ann@example.net", "invalid_mailbox")
