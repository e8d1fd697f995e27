"""The door from outside: commands, logins, TLS, submissions, and what is stored of them."""

import base64
import shutil
import smtplib
import ssl
from email import message_from_bytes
from email.message import EmailMessage

import pytest

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.tenants import repo
from tests.smtpd.conftest import MAIL, RunningDoor, Talk, client, plain, running, trusting
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def door(services):
    with running(services) as one:
        yield one


@pytest.fixture(scope="module")
def key(door):
    return door.key()


@pytest.fixture
def talk(door, key):
    with Talk(door.port) as one:
        yield one.login(key)


def last(door: RunningDoor):
    return door.stored()[-1]


def test_a_submitted_mail_is_stored_with_its_envelope_and_a_received_line(door, key):
    with client(door.port) as smtp:
        smtp.login("whoever", key)
        code, text = smtp.docmd("MAIL", "FROM:<bounces@example.com> SIZE=100 BODY=8BITMIME")
        assert (code, text[:5]) == (250, b"2.1.0")
        for one in ("ann@example.com", "Bob@EXAMPLE.com"):
            assert smtp.rcpt(one)[0] == 250
        code, text = smtp.data(MAIL)
    assert code == 250
    message = last(door)
    assert text.decode() == f"2.0.0 Stored as {message.id}"
    assert (message.mail_from, message.subject, message.status) == ("bounces@example.com", "Hello", "PENDING")
    assert door.recipients(message) == {"ann@example.com": "to", "Bob@example.com": "bcc"}
    raw = bytes(message.raw)
    assert raw.endswith(MAIL)
    found = message_from_bytes(raw)
    assert found.keys()[:3] == ["Received", "Date", "Message-ID"]
    assert found["Received"].startswith("from client.test ([127.0.0.1])\r\n\tby mail.example.com with ESMTPA;\r\n\t")
    assert key[:8] not in raw.decode()


def test_everything_but_the_repairs_keeps_its_bytes(door, talk):
    head = b"Date: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@x.test>\r\nFrom: <shop@example.com>\r\n"
    body = b"\r\n.\r\n..\r\n.a dot\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\r\n  \r\n"
    talk.begin("ann@example.com", parameters=" BODY=8BITMIME")
    stuffed = (head + b"bcc: secret@example.com\r\n" + body).replace(b"\r\n.", b"\r\n..")
    talk.send(stuffed + b".\r\n")
    assert talk.reply().startswith(b"250 2.0.0")
    received, _, rest = bytes(last(door).raw).partition(b"Date: Sat")
    assert b"Date: Sat" + rest == head + body
    assert received.startswith(b"Received: ")


def test_international_addresses_need_smtputf8(door, talk):
    assert talk.say(b"MAIL FROM:<shop@example.com>").startswith(b"250")
    assert talk.say("RCPT TO:<jörg@example.com>".encode()).startswith(b"553 5.6.7")
    assert talk.say(b"RSET").startswith(b"250")
    talk.begin("jörg@bücher.example", parameters=" SMTPUTF8")
    talk.send(MAIL + b".\r\n")
    assert talk.reply().startswith(b"250")
    message = last(door)
    assert message.smtputf8
    assert door.recipients(message) == {"jörg@xn--bcher-kva.example": "bcc"}
    assert b"with UTF8SMTPA;" in bytes(message.raw)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", b"500 5.5.2"),
        (b"WHAT", b"500 5.5.1"),
        (b"MAIL", b"501 5.5.4"),
        (b"MAIL FROM:shop@example.com", b"501 5.5.4"),
        (b"MAIL FROM:<nouser>", b"553 5.1.7"),
        (b"MAIL FROM:<a@b.test> FOO=1", b"555 5.5.4"),
        (b"MAIL FROM:<a@b.test> BODY=BINARYMIME", b"501 5.5.4"),
        (b"MAIL FROM:<a@b.test> SIZE=-1", b"501 5.5.4"),
        (b"MAIL FROM:<a@b.test> SIZE=1 SIZE=1", b"501 5.5.4"),
        (b"MAIL FROM:<a@b.test> SIZE=300000", b"552 5.3.4"),
        (b"RCPT TO:<a@b.test>", b"503 5.5.1"),
        (b"DATA", b"503 5.5.1"),
        (b"DATA now", b"501 5.5.4"),
        (b"EHLO", b"501 5.5.4"),
        (b"EHLO a b", b"501 5.5.4"),
        (b"EHLO a\xff", b"500 5.5.2"),
        (b"AUTH PLAIN", b"503 5.5.1"),  # the second time
        (b"NOOP\tx", b"500 5.5.2"),
        (b"NO\0OP", b"500 5.5.2"),
        (b"NOOP \r", b"500 5.5.2"),
        (b"X" * 3000, b"500 5.5.2"),
        (b"NOOP anything", b"250 2.0.0"),
        (b"RSET", b"250 2.0.0"),
        (b"RSET now", b"501 5.5.4"),
        (b"VRFY ann@example.com", b"252 2.5.0"),
        (b"VRFY", b"501 5.5.4"),
        (b"EXPN staff", b"502 5.5.1"),
        (b"HELP", b"214 2.0.0"),
        (b"STARTTLS", b"502 5.5.1"),  # this door has no certificate
    ],
)
def test_each_reply_has_an_enhanced_code(talk, line, reply):
    assert talk.say(line).startswith(reply)
    assert talk.say(b"QUIT").startswith(b"221 2.0.0")
    assert talk.closed()


@pytest.mark.parametrize(
    "path",
    [b"<>", b"<nouser>", b"<@a.test:>", b"<a@b.test", b"a@b.test", b"<a b@c.test>", b"<a@b.test>x", b"<a@@b.test>",
     b"<a@[1.2.3.4]>", b"<" + b"a" * 300 + b"@b.test>", b"<" + b"a" * 1100 + b"@b.test>", b"<a@b.test>\x7f",
     b"<a\tb@c.test>", b"<a@b.test> NOTIFY=NEVER"],
)  # fmt: skip
def test_a_path_that_is_none_is_refused(talk, path):
    assert talk.say(b"MAIL FROM:<shop@example.com>").startswith(b"250")
    assert talk.say(b"RCPT TO:" + path)[:3] in (b"500", b"501", b"553", b"555")
    assert talk.say(b"DATA").startswith(b"554 5.5.1")


def test_a_source_route_is_left_out_and_quotes_are_kept_where_they_are_needed(door, talk):
    talk.begin("@relay.test,@other.test:ann@example.com", '"a..b"@example.com')
    talk.send(MAIL + b".\r\n")
    assert talk.reply().startswith(b"250")
    assert set(door.recipients(last(door))) == {"ann@example.com", '"a..b"@example.com'}


def test_a_line_that_ends_in_lf_alone_is_no_command(talk):
    talk.send(b"NOOP\nMAIL FROM:<a@b.test>\r\n")
    assert [talk.reply()[:9] for _ in range(2)] == [b"500 5.5.2", b"250 2.1.0"]


def test_commands_may_come_together_and_each_is_answered_in_its_turn(door, talk):
    before = len(door.stored())
    talk.send(
        b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<ann@example.com>\r\nRCPT TO:<nouser>\r\nDATA\r\n"
        + MAIL + b".\r\nMAIL FROM:<shop@example.com>\r\nRSET\r\nNOOP\r\nQUIT\r\n"
    )  # fmt: skip
    codes = [talk.reply()[:3] for _ in range(9)]
    assert codes == [b"250", b"250", b"553", b"354", b"250", b"250", b"250", b"250", b"221"]
    assert talk.closed()
    assert len(door.stored()) == before + 1


def test_too_many_recipients_are_refused_one_by_one_and_the_others_get_the_mail(door, talk):
    assert talk.say(b"MAIL FROM:<shop@example.com>").startswith(b"250")
    replies = [talk.say(b"RCPT TO:<n%d@example.com>" % n)[:9] for n in range(12)]
    assert replies == [b"250 2.1.5"] * 10 + [b"452 4.5.3"] * 2
    assert talk.say(b"DATA").startswith(b"354")
    talk.send(MAIL + b".\r\n")
    assert talk.reply().startswith(b"250")
    assert len(door.recipients(last(door))) == 10


@pytest.mark.parametrize("line", [b"x" * 70, b"." * 70, b"."])
def test_a_message_that_is_too_big_is_read_to_its_end_and_refused(door, talk, line):
    before = len(door.stored())
    talk.begin()
    dot = b"." if line.startswith(b".") else b""
    talk.send(MAIL + (dot + line + b"\r\n") * (310_000 // (len(line) + 2)) + b".\r\n")
    assert talk.reply().startswith(b"552 5.3.4")
    assert talk.say(b"NOOP").startswith(b"250")
    assert len(door.stored()) == before


def test_a_message_of_dots_that_is_not_too_big_is_taken(door, talk):
    talk.begin()
    talk.send(MAIL + b"..\r\n" * 90_000 + b".\r\n")
    assert talk.reply().startswith(b"250")
    assert bytes(last(door).raw).endswith(MAIL + b".\r\n" * 90_000)


@pytest.mark.parametrize(
    ("mail", "reply"),
    [
        (b"From: a@x.test, b@x.test\r\n\r\nhi\r\n", b"550 5.7.1"),
        (b"\r\nhi\r\n", b"550 5.7.1"),
        (b"From: a@x.test\r\nnot a header\r\n\r\nhi\r\n", b"550 5.6.0"),
        (b"From: a@x.test\r\n\r\n" + b"x" * 1200 + b"\r\n", b"550 5.6.0"),
        (b"", b"550 5.7.1"),
    ],
)
def test_a_mail_that_is_none_is_refused_with_the_reason(talk, mail, reply):
    talk.begin()
    talk.send(mail + b".\r\n")
    assert talk.reply().startswith(reply)


# Logins.


@pytest.mark.parametrize("mechanism", ["PLAIN", "plain in two", "LOGIN", "login in three"])
def test_a_key_with_the_scope_smtp_logs_in_by_each_mechanism(door, key, mechanism):
    with Talk(door.port) as talk:
        assert talk.say(b"EHLO client.test").startswith(b"250")
        secret = base64.b64encode(key.encode())
        if mechanism == "PLAIN":
            reply = talk.say(b"AUTH PLAIN " + plain(key))
        elif mechanism == "plain in two":
            assert talk.say(b"auth plain") == b"334 "
            reply = talk.say(plain(key))
        else:
            user = base64.b64encode(b"ann")
            if mechanism == "LOGIN":
                assert talk.say(b"AUTH LOGIN " + user).startswith(b"334 ")
            else:
                assert talk.say(b"AUTH LOGIN") == b"334 VXNlcm5hbWU6"
                assert talk.say(user) == b"334 UGFzc3dvcmQ6"
            reply = talk.say(secret)
        assert reply.startswith(b"235 2.7.0")
        assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"250")


def test_without_a_login_nothing_is_taken_and_wrong_keys_are_counted_as_failed_logins(door):
    lacks = door.key(scopes=(Scope.WRITE,))
    before = door.failed
    with Talk(door.port) as talk:
        assert talk.say(b"AUTH PLAIN").startswith(b"503 5.5.1")  # before EHLO
        assert talk.say(b"EHLO client.test").startswith(b"250")
        assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"530 5.7.0")
        assert talk.say(b"AUTH PLAIN " + plain("mbg_" + "a" * 12 + "_" + "b" * 43)).startswith(b"535 5.7.8")
        assert talk.say(b"AUTH PLAIN " + plain(lacks)).startswith(b"535 5.7.8 This API key lacks the scope smtp")
        assert talk.say(b"AUTH PLAIN !").startswith(b"501 5.5.2")
        assert talk.say(b"AUTH GSSAPI").startswith(b"504 5.5.4")
        assert talk.say(b"AUTH LOGIN").startswith(b"334")
        assert talk.say(b"*").startswith(b"501 5.7.0")
        assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"530 5.7.0")
    assert door.failed == before + 1


def test_a_revoked_key_works_no_more_not_even_in_a_session(door):
    key = door.key()
    with Talk(door.port) as talk:
        talk.login(key)
        with door.services.db.write() as session:
            found = repo.lookup(session, [key.split("_")[1]])[0].key
            repo.revoke(session, found.tenant_id, found.id)

        def refused():
            talk.say(b"RSET")
            return talk.say(b"MAIL FROM:<a@b.test>").startswith(b"535 5.7.8")

        wait_until(refused, "a key that works no more")


def test_a_key_sends_only_as_its_senders_and_a_team_key_only_to_its_guests(door):
    key = door.key(senders=("example.com",), kind=KeyKind.TEAM, guests=("ann@example.com",))
    with Talk(door.port) as talk:
        talk.login(key)
        assert talk.say(b"MAIL FROM:<>").startswith(b"550 5.7.1")
        assert talk.say(b"MAIL FROM:<a@other.test>").startswith(b"550 5.7.1 This API key may not send as a@other.test")
        talk.begin("ann@example.com")
        talk.send(b"From: boss@other.test\r\n\r\nhi\r\n.\r\n")
        assert talk.reply().startswith(b"550 5.7.1 This API key may not send as boss@other.test")
        talk.say(b"MAIL FROM:<shop@example.com>")
        assert talk.say(b"RCPT TO:<bob@example.com>").startswith(b"550 5.7.1")
        assert talk.say(b"RCPT TO:<a@simulator>").startswith(b"550 5.7.1")


def test_a_test_key_sends_test_messages(door):
    with client(door.port) as smtp:
        smtp.login("x", door.key(kind=KeyKind.TEST))
        smtp.sendmail("shop@example.com", ["ann@simulator"], MAIL)
    assert last(door).test


def test_requests_a_minute_of_a_key_are_limited(door):
    with Talk(door.port) as talk:
        talk.login(door.key(max_requests_per_minute=1))
        talk.begin()
        talk.send(MAIL + b".\r\n")
        assert talk.reply().startswith(b"250")
        assert talk.say(b"MAIL FROM:<shop@example.com>").startswith(b"450 4.7.1 More than 1 messages a minute")


def test_without_a_database_clients_are_told_to_come_again(door, talk):
    door.database = False
    assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"451 4.3.0")
    door.database = True
    assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"250")


# Repeated mail.


def test_a_mail_with_a_message_id_that_comes_again_is_answered_as_the_first(door, talk):
    mail = b"Message-ID: <same@example.com>\r\n" + MAIL
    replies = []
    for to in ("ann@example.com", "ann@example.com", "bob@example.com"):
        talk.begin(to)
        talk.send(mail + b".\r\n")
        replies.append(talk.reply())
    assert replies[0] == replies[1] != replies[2]
    assert replies[2].startswith(b"250")


def test_equal_mail_without_a_message_id_is_sent_as_often_as_it_comes(door, talk):
    replies = set()
    for _ in range(2):
        talk.begin()
        talk.send(MAIL + b".\r\n")
        replies.add(talk.reply())
    assert len(replies) == 2


# TLS.


@pytest.fixture(scope="module")
def tls(services, authority, tmp_path_factory):
    pem = tmp_path_factory.mktemp("pem") / "door.pem"
    shutil.copy(authority.issue("localhost"), pem)
    with running(services, certificate=pem, key=pem, tls_port=0, host="127.0.0.1") as one:
        one.pem = pem
        yield one


def test_mail_is_taken_over_starttls_and_nothing_that_was_said_before_counts(tls, authority):
    with Talk(tls.port) as talk:
        talk.login(tls.key())
        assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"250")
        assert talk.say(b"STARTTLS now").startswith(b"501 5.5.4")
        assert talk.say(b"STARTTLS").startswith(b"220 2.0.0")
        talk.secure(trusting(authority))
        assert talk.say(b"RCPT TO:<ann@example.com>").startswith(b"503 5.5.1")
        assert talk.say(b"MAIL FROM:<a@b.test>").startswith(b"503 5.5.1")  # EHLO comes first
        talk.login(tls.key())
        assert talk.say(b"STARTTLS").startswith(b"503 5.5.1")
        talk.begin()
        talk.send(MAIL + b".\r\n")
        assert talk.reply().startswith(b"250")
    assert b"with ESMTPSA;" in bytes(last(tls).raw)


def test_what_comes_behind_starttls_in_the_clear_closes_the_connection(tls):
    with Talk(tls.port) as talk:
        talk.send(b"EHLO a\r\nSTARTTLS\r\nNOOP\r\n")
        assert talk.reply().startswith(b"250")
        assert talk.reply().startswith(b"554 5.5.0")
        assert talk.closed()


def test_mail_is_taken_at_the_port_with_tls_from_the_first_byte(tls, authority):
    with smtplib.SMTP_SSL("localhost", tls.addresses["tls"][1], context=trusting(authority)) as smtp:
        smtp.login("x", tls.key())
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "shop@example.com", "ann@example.com", "By TLS"
        message.set_content("Hello")
        message.add_attachment(b"\0\1" * 30_000, maintype="application", subtype="octet-stream", filename="a.bin")
        smtp.send_message(message)
        assert last(tls).subject == "By TLS"


def test_who_speaks_no_tls_at_that_port_is_closed_and_others_are_served(tls, authority):
    with Talk(tls.addresses["tls"][1], greeted=False) as talk:
        talk.send(b"EHLO a\r\n")
        assert talk.closed()
    with smtplib.SMTP_SSL("localhost", tls.addresses["tls"][1], context=trusting(authority)) as smtp:
        assert smtp.noop()[0] == 250
    wait_until(lambda: tls.door.connections == 0, "connections that are forgotten")


def test_a_new_certificate_is_used_once_its_file_has_changed(tls, authority):
    def serial():
        with Talk(tls.port) as talk:
            talk.say(b"EHLO a")
            talk.say(b"STARTTLS")
            talk.secure(trusting(authority))
            return ssl.DER_cert_to_PEM_cert(talk.link.getpeercert(binary_form=True))

    before = serial()
    tls.pem.write_text("broken")  # the old one is used on
    assert serial() == before
    shutil.copy(authority.issue("localhost"), tls.pem)
    wait_until(lambda: serial() != before, "the new certificate")
