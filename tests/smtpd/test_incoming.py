"""The MX port: mail for local domains from anybody, kept byte for byte, and no other mail."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, update

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.domains.models import SendingDomain
from mailbbgun.mailboxes.models import MAILBOXES
from mailbbgun.smtpd.taking.incoming import MOST_HOPS
from mailbbgun.tenants.models import Tenant
from tests.smtpd.conftest import Talk, plain, running
from tests.waiting import wait_until

# Its header is as strangers write it.
MAIL = b"From: \xff bad\r\nFrom: Zo\xc3\xab <zoe@far.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nhi\r\n.\r\n..\r\n"


def add_domain(services, name, tenant_id=DEFAULT_TENANT, **mailboxes):
    """Make a domain local, with these mailboxes; a mailbox's value is its most messages."""
    now = datetime.now(UTC)
    with services.db.write() as session:
        session.add(SendingDomain(id=new_id(), tenant_id=tenant_id, name=name, local=True, created_at=now, findings=[]))
        session.execute(
            insert(MAILBOXES),
            [
                {
                    "id": new_id(),
                    "tenant_id": tenant_id,
                    "address": f"{local}@{name}",
                    "quota_messages": most,
                    "created_at": now,
                }
                for local, most in mailboxes.items()
            ],
        )


@pytest.fixture(scope="module")
def other_tenant(services):
    tenant_id = new_id()
    with services.db.write() as session:
        session.add(Tenant(id=tenant_id, name="other", status="active", created_at=datetime.now(UTC)))
    return tenant_id


@pytest.fixture(scope="module")
def door(services, other_tenant):
    add_domain(services, "home.test", ann=None, bob=None, full=0)
    add_domain(services, "other.test", other_tenant, cis=None)
    add_domain(services, "mail.example.com", postmaster=None)
    add_domain(services, "quota.test", small=None)
    with services.db.write() as session:
        session.execute(update(MAILBOXES).where(MAILBOXES.c.address == "small@quota.test").values(quota_bytes=10_000))
    with running(services, mx_port=0) as one:
        yield one


@pytest.fixture
def talk(door):
    with Talk(door.addresses["mx"][1]) as one:
        assert one.say(b"EHLO mx.far.test").startswith(b"250")
        yield one


def stuffed(mail):
    return mail.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def begin(talk, *to, sender="zoe@far.test"):
    assert talk.say(f"MAIL FROM:<{sender}>".encode()).startswith(b"250")
    assert [talk.say(f"RCPT TO:<{one}>".encode())[:3] for one in to] == [b"250"] * len(to)
    assert talk.say(b"DATA").startswith(b"354")


def test_mail_for_a_mailbox_is_stored_as_received_with_a_received_line_and_its_own_bytes(door, talk):
    begin(talk, "Ann@home.test", "bob+tag@home.test")
    talk.send(stuffed(MAIL))
    assert talk.reply().startswith(b"250 2.0.0 Stored as ")
    message = door.stored()[-1]
    received, _, rest = bytes(message.raw).partition(b"From: \xff")
    assert b"From: \xff" + rest == MAIL
    assert received.startswith(b"Received: from mx.far.test ([127.0.0.1])\r\n\tby mail.example.com with ESMTP;\r\n\t")
    assert (message.received, message.mail_from, message.subject) == (True, "zoe@far.test", "café")
    assert set(door.recipients(message)) == {"Ann@home.test", "bob+tag@home.test"}


@pytest.mark.parametrize("field", [b"(" * 5000, b"a:" * 3000])
def test_mail_whose_from_no_parser_can_read_is_stored_all_the_same(door, talk, field):
    begin(talk, "ann@home.test")
    talk.send(stuffed(b"From: " + field + b"\r\nSubject: deep\r\n\r\nhi\r\n"))
    assert talk.reply().startswith(b"250 2.0.0 Stored as ")
    assert door.stored()[-1].subject == "deep"


def test_the_null_sender_and_postmaster_without_a_domain_are_taken(door, talk):
    begin(talk, "Postmaster", sender="")
    talk.send(stuffed(MAIL))
    assert talk.reply().startswith(b"250")
    message = door.stored()[-1]
    assert message.mail_from == ""
    assert set(door.recipients(message)) == {"postmaster@mail.example.com"}


@pytest.mark.parametrize(
    ("to", "reply"),
    [
        ("ann@example.com", b"550 5.7.1 relaying denied"),
        ("ann@sub.home.test", b"550 5.7.1 relaying denied"),
        ("ann%example.com@home.test", b"550 5.1.1"),
        ("@home.test:ann@example.com", b"550 5.7.1 relaying denied"),
        ("nobody@home.test", b"550 5.1.1"),
        ("full@home.test", b"452 4.2.2"),
        ("nouser", b"553 5.1.3"),
    ],
)
def test_a_recipient_without_a_mailbox_is_refused_at_once(door, talk, to, reply):
    before = len(door.stored())
    assert talk.say(b"MAIL FROM:<zoe@far.test>").startswith(b"250")
    assert talk.say(f"RCPT TO:<{to}>".encode()).startswith(reply)
    assert talk.say(b"DATA").startswith(b"554 5.5.1")
    assert len(door.stored()) == before


@pytest.mark.parametrize(
    ("said", "to", "reply"),
    [
        (b"", ("small@quota.test",), b"552 5.3.4"),
        (b"", ("ann@home.test", "small@quota.test"), b"552 5.3.4"),
        (b" SIZE=9", ("small@quota.test",), b"552 5.3.4"),
        (b"", ("ann@home.test",), b"250 2.0.0"),
    ],
)
def test_mail_that_is_larger_than_the_client_said_is_refused_while_its_sender_hears_it(door, talk, said, to, reply):
    before = len(door.stored())
    assert talk.say(b"MAIL FROM:<zoe@far.test>" + said).startswith(b"250")
    for one in to:
        assert talk.say(f"RCPT TO:<{one}>".encode()).startswith(b"250")
    assert talk.say(b"DATA").startswith(b"354")
    talk.send(stuffed(MAIL + b"12345678\r\n" * 1000))
    assert talk.reply().startswith(reply)
    assert len(door.stored()) == before + reply.startswith(b"250")


def test_a_login_makes_no_relay_of_the_mx_port(door, talk):
    assert talk.say(b"AUTH PLAIN " + plain(door.key())).startswith(b"502 5.5.1")
    assert b"AUTH" not in talk.say(b"EHLO mx.far.test")
    talk.say(b"MAIL FROM:<ann@home.test>")
    assert talk.say(b"RCPT TO:<ann@example.com>").startswith(b"550 5.7.1")


def test_each_tenant_gets_a_message_with_its_own_recipients(door, talk, other_tenant):
    before = len(door.stored())
    begin(talk, "ann@home.test", "cis@other.test")
    talk.send(stuffed(MAIL))
    assert talk.reply().startswith(b"250")
    new = door.stored()[before:]
    assert {one.tenant_id: set(door.recipients(one)) for one in new} == {
        DEFAULT_TENANT: {"ann@home.test"},
        other_tenant: {"cis@other.test"},
    }


@pytest.mark.parametrize("known_by", [b"Message-ID: <1@far.test>\r\n", b"Received: from a by b; today\r\n"])
def test_mail_that_a_server_sends_again_is_stored_once(door, talk, known_by):
    before = len(door.stored())
    replies = set()
    for _ in range(2):
        begin(talk, "ann@home.test")
        talk.send(stuffed(known_by + MAIL))
        replies.add(talk.reply())
    assert len(replies) == 1
    assert len(door.stored()) == before + 1


def test_mail_that_goes_round_in_circles_is_refused(door, talk):
    begin(talk, "ann@home.test")
    talk.send(b"Received: from a by b; today\r\n" * (MOST_HOPS + 1) + stuffed(MAIL))
    assert talk.reply().startswith(b"554 5.4.6")


def test_a_mailbox_that_is_made_now_gets_mail_at_once(door, talk):
    add_domain(door.services, "new.test", dot=None)

    def taken():
        talk.say(b"RSET")
        talk.say(b"MAIL FROM:<zoe@far.test>")
        return talk.say(b"RCPT TO:<dot@new.test>").startswith(b"250")

    wait_until(taken, "a domain that is known")


def test_a_stranger_who_guesses_recipients_has_to_go(door, monkeypatch):
    monkeypatch.setattr("mailbbgun.smtpd.conversation.connection.LATE_SECONDS", 0.01)
    with Talk(door.addresses["mx"][1]) as talk:
        talk.say(b"HELO mx.far.test")
        talk.say(b"MAIL FROM:<zoe@far.test>")
        talk.send(b"".join(b"RCPT TO:<guess%d@home.test>\r\n" % n for n in range(50)))
        while (reply := talk.reply()).startswith(b"550"):
            assert b"5.1.1" in reply
        assert reply.startswith(b"421 4.7.0")
