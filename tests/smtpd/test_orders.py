"""The ``X-MBG-`` fields: they do what JSON does, are taken out, and are refused by name."""

import pytest

from mailbbgun.accept.mime.raw import HEADER_SIZE
from mailbbgun.core.caller import ANYBODY
from mailbbgun.core.errors import InvalidInput
from mailbbgun.core.ids import new_id
from mailbbgun.smtpd.parts import MailTransaction
from mailbbgun.smtpd.taking.composed import composed
from mailbbgun.smtpd.taking.orders import taken_out
from mailbbgun.templates import versions
from tests.smtpd.conftest import Talk, running

HEAD = b"From: Shop <shop@example.com>\r\nTo: Ann <ann@example.com>\r\nSubject: Hello\r\n"
BODY = b"\r\nX-MBG-Tag: in the body\r\n"


@pytest.fixture(scope="module")
def door(services):
    with running(services) as one:
        yield one


@pytest.fixture
def send(door):
    with Talk(door.port) as talk:
        talk.login(door.key())

        def sent(mail, *to):
            talk.begin(*to)
            talk.send(mail + b".\r\n")
            return talk.reply().decode()

        yield sent


def test_a_mail_without_such_fields_stays_as_it_is():
    assert taken_out(HEAD + BODY) == (HEAD + BODY, None)
    assert taken_out(b"Subject: x-mbg-tag: no\r\n" + BODY) == (b"Subject: x-mbg-tag: no\r\n" + BODY, None)


def test_the_fields_are_read_and_taken_out():
    given = (
        b"X-MBG-Tag: first\r\nx-mbg-tag:\r\n =?utf-8?q?gr=C3=BCn?=\r\n"
        b'X-MBG-Metadata: {"order": 17,\r\n "ok": true}\r\nX-Mbg-Priority: 9\r\n'
        b"X-MBG-Send-At: Sat, 31 Jan 2026 12:00:00 +0000\r\nX-MBG-Idempotency-Key: one\r\n"
    )
    kept, orders = taken_out(given + HEAD + b"X-Other: \xc3\xbc\r\n" + BODY)
    assert kept == HEAD + b"X-Other: \xc3\xbc\r\n" + BODY
    options = orders.options
    assert options.tags == ["first", "grün"]
    assert options.metadata == {"order": 17, "ok": True}
    assert (options.priority, options.idempotency_key) == (9, "one")
    assert options.send_at.isoformat() == "2026-01-31T12:00:00+00:00"
    assert orders.fields == {}


def test_a_header_that_is_too_large_for_any_mail_is_not_read_field_by_field(send):
    many = b"X-MBG-Tag: x\r\n" * (HEADER_SIZE // 14 + 1)
    assert taken_out(many + HEAD + BODY) == (many + HEAD + BODY, None)
    assert send(many + HEAD + BODY).startswith("550 5.6.0 Its header has ")


@pytest.mark.parametrize(
    "field",
    [b"X-MBG-Priority: ten", b"X-MBG-Priority: 10", b"X-MBG-Metadata: {", b"X-MBG-Metadata: [1]", b"X-MBG-Tag:",
     b"X-MBG-Tag: \xff", b"X-MBG-Send-At: tomorrow", b"X-MBG-Track: everything", b"X-MBG-Unknown: 1",
     b"X-MBG-Priority: 1\r\nX-MBG-Priority: 2", b"X-MBG-Variables: {}", b"X-MBG-Metadata: {}" + b" " * 90_000 + b"x"],
)  # fmt: skip
def test_a_wrong_field_is_refused(field):
    with pytest.raises(InvalidInput):
        taken_out(field + b"\r\n" + HEAD + BODY)


@pytest.mark.parametrize(
    ("field", "reply"),
    [
        (b"X-MBG-Priority: ten", '550 5.6.0 X-MBG-Priority: Must be an integer from 0 to 9; "ten" is a string.'),
        (b"X-MBG-Priority: 10", "550 5.6.0 X-MBG-Priority: Must be an integer from 0 to 9, not 10."),
        (b"X-MBG-Send-At: tomorrow", "550 5.6.0 X-MBG-Send-At: Must be a time as in RFC 3339 ("),
        (b"X-MBG-Metadata: {a", "550 5.6.0 X-MBG-Metadata: It is not valid JSON at line 1, "),
        (b"X-MBG-Metadata: 5", "550 5.6.0 X-MBG-Metadata: It must be a JSON object, "),
        (b"no field", "550 5.6.0 Its header has a line that is no field: 'no field' (RFC 5322 2.2)."),
        (b"X-MBG-Tag: " + b"x" * 200, "550 5.6.0 X-MBG-Tag: "),
        (b'X-MBG-Metadata: {"a": {"b": 1}}', "550 5.6.0 X-MBG-Metadata: "),
        (b"X-MBG-Send-At: 2999-01-01T00:00:00Z", "550 5.6.0 X-MBG-Send-At: "),
        (b"X-MBG-Idempotency-Key: \xc3\xbc", "550 5.6.0 X-MBG-Idempotency-Key: "),
        (b"X-MBG-Unknown: 1", "550 5.6.0 X-MBG-unknown: "),
        (b"X-MBG-Template: no such one", "550 5.6.0 X-MBG-Template: "),
        (b"X-MBG-Track: opens", "550 5.6.0 X-MBG-Track: Needs HTML"),
    ],
)
def test_the_reply_names_the_field(send, field, reply):
    answer = send(field + b"\r\n" + HEAD + BODY)
    assert answer.startswith(reply), answer


def test_options_are_stored_with_the_message(door, send):
    fields = b'X-MBG-Tag: a\r\nX-MBG-Tag: b\r\nX-MBG-Metadata: {"order": 17}\r\nX-MBG-Priority: 2\r\n'
    assert send(fields + HEAD + BODY).startswith("250")
    found = door.stored()[-1]
    assert (found.tags, found.priority, found.meta) == (["a", "b"], 2, {"order": 17})
    assert bytes(found.raw).endswith(HEAD + BODY)
    assert b"X-MBG-Metadata" not in bytes(found.raw)


def test_an_idempotency_key_makes_one_message_and_is_for_one_mail(send):
    key = b"X-MBG-Idempotency-Key: k-1\r\n"
    first, again, other = (send(key + HEAD + body) for body in (BODY, BODY, b"\r\nother\r\n"))
    assert first == again
    assert first.startswith("250")
    assert other.startswith("550 5.6.0 ")


def test_a_template_makes_the_mail_for_the_recipients_that_the_header_names(door, send):
    with door.services.db.write() as session:
        given = {"name": "greeting", "subject": "Hello {{ name }}", "text": "Dear {{ name }}"}
        versions.create(session, ANYBODY, given, versions.checked(given), new_id())
    asked = b'X-MBG-Template: greeting\r\nX-MBG-Variables: {"name": "Ann"}\r\n'
    reply = send(asked + HEAD + b"\r\nthis text is replaced\r\n", "ann@example.com", "bob@example.com")
    assert reply.startswith("250"), reply
    message = door.stored()[-1]
    assert message.subject == "Hello Ann"
    assert door.recipients(message) == {"ann@example.com": "to", "bob@example.com": "bcc"}


def test_a_tracked_mail_is_composed_of_its_texts(door, send):
    mail = (
        b"X-MBG-Track: opens, clicks\r\n"
        + HEAD
        + b'X-Order: 17\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        b"--b\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Gr\xfc\xdfe</p>\r\n--b--\r\n"
    )
    reply = send(mail)
    assert reply.startswith("250"), reply
    assert door.stored()[-1].raw is None  # it is composed of its content when it is sent


def test_a_mail_to_compose_whose_header_no_parser_can_read_is_refused(send):
    deep = b"X-MBG-Track: opens\r\nReply-To: " + b"(" * 900 + b"\r\n " + b"(" * 900 + b"\r\n"
    answer = send(deep + HEAD + b"Content-Type: text/html\r\n\r\nx\r\n")
    assert answer.startswith("550 5.6.0 "), answer
    assert answer.endswith("Cannot be read.")


def transaction(*to):
    return MailTransaction("bounces@example.com", smtputf8=False, recipients=list(to))


def test_fields_of_a_mail_to_compose():
    mail = (
        b'From: =?utf-8?q?J=C3=B6rg=2C_Shop?= <shop@example.com>\r\nTo: "Lee, Ann" <ann@example.com>, other@x.test\r\n'
        b"Cc: BOB@example.com\r\nReply-To: help@example.com\r\nMessage-ID: <1@x.test>\r\nX-Order: 17\r\nReceived: x\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n"
    )
    found = composed(transaction("ann@example.com", "bob@example.com", "cis@example.com"), mail, {"track_opens": True})
    assert found.sender == '"Jörg, Shop" <shop@example.com>'
    assert (found.to, found.cc, found.bcc) == (
        ['"Lee, Ann" <ann@example.com>'],
        ["bob@example.com"],
        ["cis@example.com"],
    )
    assert (found.subject, found.html, found.text, found.track_opens) == ("Grüße", "<p>Hi</p>\n", None, True)
    assert (found.envelope_from, found.reply_to) == ("bounces@example.com", ["help@example.com"])
    assert (found.message_id_header, dict(found.headers)) == ("<1@x.test>", {"X-Order": "17"})


@pytest.mark.parametrize(
    "mail",
    [
        HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhi\r\n--b--\r\n',
        HEAD + b"Content-Type: application/pdf\r\n\r\nx\r\n",
        HEAD + b"Content-Type: text/html; charset=utf-8\r\n\r\n\xff\r\n",
        HEAD + b"Content-Type: text/html; charset=nonsense\r\n\r\nx\r\n",
        HEAD + b"X: " + b"x" * 70_000 + b"\r\nContent-Type: text/html\r\n\r\nx\r\n",
        b"To: ann@example.com\r\nContent-Type: text/html\r\n\r\nx\r\n",
    ],
)
def test_a_mail_that_would_lose_something_is_not_composed(mail):
    with pytest.raises(InvalidInput):
        composed(transaction("ann@example.com"), mail, {"track_opens": True})
