"""Logins at the door, and TLS."""

import base64
import gc
import shutil
import smtplib
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from email.message import EmailMessage

import pytest

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.smtpd.conversation import connection
from mailbbgun.tenants import repo
from tests.smtpd.conftest import MAIL, Talk, client, plain, running, trusting
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


def last(door):
    return door.stored()[-1]


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


def test_a_client_that_sends_much_right_behind_its_handshake_is_answered(tls, authority):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with Talk(tls.port) as talk:
        talk.say(b"EHLO a")
        talk.say(b"STARTTLS")
        link = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                link.do_handshake()
                break
            except ssl.SSLWantReadError:
                talk.send(outgoing.read())
                incoming.write(talk.link.recv(65_536))
        envelope = b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n"
        link.write(b"EHLO a\r\nAUTH PLAIN " + plain(tls.key()) + b"\r\n" + envelope)
        link.write(MAIL + b"long text\r\n" * 15_000 + b".\r\nQUIT\r\n")
        talk.send(outgoing.read())  # the end of the handshake and all commands at once
        assert talk.closed()
    assert last(tls).size > 150_000


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


@pytest.mark.parametrize("filler", [b"", b"x" * 200_000])  # so many octets that the door reads no more for now
@pytest.mark.parametrize("port", ["tls", "submission"])
def test_who_has_gone_is_answered_no_more(tls, authority, monkeypatch, caplog, port, filler):
    monkeypatch.setattr(connection, "LATE_SECONDS", 0.05)  # each error is answered by itself
    with Talk(tls.addresses[port][1], greeted=False) as talk:
        if port == "tls":
            talk.secure(trusting(authority))
        talk.send(b"WHAT\r\n" * (connection.MOST_ERRORS - 1) + filler)
        assert talk.reply().startswith(b"220")
        assert talk.reply().startswith(b"500")
    wait_until(lambda: tls.door.connections == 0, "a connection that is forgotten")
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.fixture
def no_collections():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("way", ["quit", "close", "reset", "errors", "no handshake"])
def test_a_connection_that_has_ended_leaves_no_garbage(tls, authority, no_collections, way):
    def kept() -> list[object]:
        return [one for one in gc.get_objects() if isinstance(one, connection.DoorConnection | SSLProtocol)]

    for _ in range(3):
        with Talk(tls.addresses["tls"][1], greeted=False) as talk:
            if way == "no handshake":
                talk.send(b"EHLO client.test\r\n")
                assert talk.closed()
                continue
            assert talk.secure(trusting(authority)).reply().startswith(b"220")
            if way == "reset":
                talk.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif way == "errors":
                talk.send(b"WHAT\r\n" * (connection.FREE_ERRORS + 1))
            elif way == "quit":
                assert talk.say(b"QUIT").startswith(b"221")
                assert talk.closed()
    wait_until(lambda: not kept(), "the end of all that a connection is made of")


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
