"""Which sink is chosen, and that it counts what it took."""

import contextlib
import shutil
import smtplib
import socket
import ssl
from collections.abc import Callable

import pytest

from bench import BenchError
from bench.processes.sink import NAME, Sink
from bench.programs.asyncio_sink import PASSWORD, USER
from tests.waiting import PATIENCE, at_least, pause, wait_until


@pytest.fixture
def _no_postfix(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)


@pytest.mark.usefixtures("_no_postfix")
def test_without_postfix_and_apt_ours_is_taken_and_says_why():
    with Sink("auto") as sink:
        assert sink.name == "asyncio"
        assert "no apt-get" in sink.why


@pytest.mark.usefixtures("_no_postfix")
def test_without_postfix_asking_for_it_is_an_error():
    with pytest.raises(BenchError, match="part of Postfix"):
        Sink("smtp-sink")


def test_it_counts_messages_whatever_is_in_them():
    with Sink("asyncio") as sink, smtplib.SMTP("127.0.0.1", sink.port) as client:
        assert sink.count() == 0
        for text in ("hello\r\n", ".\r\n", "a\r\n.b\r\nQUIT\r\nDATA\r\n", "x" * 900_000):
            client.sendmail("a@example.test", ["b@example.test"], text)
        assert sink.count() == 4


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_it_understands_pipelining_in_pieces_of_any_size(size):
    one = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nhi\r\n.\r\n"
    said = b"EHLO x\r\n" + one * 3 + b"MAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n.\r\nQUIT\r\n"
    with Sink("asyncio") as sink, socket.create_connection(("127.0.0.1", sink.port), PATIENCE) as link:
        for start in range(0, len(said), size):
            link.sendall(said[start : start + size])
            if size < 100:
                pause(0.0002)
        answers = b""
        while data := link.recv(65_536):
            answers += data
        assert sink.count() == 4
        assert answers.count(b"354 ") == 4
        assert answers.endswith(b"250 2.0.0 ok\r\n221 bye\r\n")


def test_a_slow_sink_takes_its_time_for_each_command_also_when_they_are_pipelined():
    said = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
    with Sink("asyncio", delay=0.1) as sink, socket.create_connection(("127.0.0.1", sink.port), PATIENCE) as link:
        replies = link.makefile("rb")
        assert replies.readline().startswith(b"220 ")
        with at_least(0.3):
            link.sendall(said)
            for code in (b"250 ", b"250 ", b"354 "):
                with at_least(0.05):
                    assert replies.readline().startswith(code)
        link.sendall(b"hi\r\n.\r\n")
        assert sink.count() == 0
        assert replies.readline().startswith(b"250 ")
        assert sink.count() == 1


def test_several_processes_share_the_port_and_the_counters():
    with Sink("asyncio", processes=3) as sink:
        for number in range(30):
            with smtplib.SMTP("127.0.0.1", sink.port) as client:
                client.sendmail("a@example.test", [f"b{number}@example.test"], "hello\r\n")
        wait_until(lambda: sink.counts()["ended"] == 30, "the end of all sessions")
        counted = sink.counts()
    # smtplib waits for each of MAIL, RCPT, DATA, the end and QUIT.
    assert counted == {
        "sessions": 30,
        "ended": 30,
        "encrypted": 0,
        "logins": 0,
        "commands": 150,
        "round_trips": 150,
        "messages": 30,
    }


def test_commands_that_are_pipelined_are_one_round_trip():
    one = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
    with Sink("asyncio", delay=0.01) as sink, socket.create_connection(("127.0.0.1", sink.port), PATIENCE) as link:
        replies = link.makefile("rb")
        replies.readline()
        for said, answers in ((one, 3), (b"hi\r\n.\r\n" + one, 4), (b"hi\r\n.\r\n", 1)):
            link.sendall(said)
            assert [replies.readline()[:1] in b"23" for _ in range(answers)] == [True] * answers
        counted = sink.counts()
    assert (counted["commands"], counted["round_trips"], counted["messages"]) == (8, 3, 2)


@pytest.mark.parametrize("login", [smtplib.SMTP.auth_plain, smtplib.SMTP.auth_login])
@pytest.mark.parametrize("host", ["127.0.0.1", NAME])
def test_with_tls_it_shows_a_certificate_and_takes_the_right_password(login: Callable[..., str], host: str):
    with Sink("asyncio", tls=True, processes=2) as sink, smtplib.SMTP("127.0.0.1", sink.port) as client:
        client._host = host  # the name that the certificate must have
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=ssl.create_default_context(cafile=str(sink.ca_file)))
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        assert not client.has_extn("starttls")
        mechanism = "PLAIN" if login is smtplib.SMTP.auth_plain else "LOGIN"
        for user, password in ((USER, "wrong"), ("wrong", PASSWORD)):
            client.user, client.password = user, password
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.auth(mechanism, getattr(client, login.__name__), initial_response_ok=mechanism == "PLAIN")
            assert refused.value.smtp_code == 535
        client.user, client.password = USER, PASSWORD
        answer = client.auth(mechanism, getattr(client, login.__name__), initial_response_ok=mechanism == "PLAIN")
        assert answer[0] == 235
        client.sendmail("a@example.test", ["b@example.test"], "x" * 100_000)
        counted = sink.counts()
    assert (counted["encrypted"], counted["logins"], counted["messages"]) == (1, 1, 1)


def test_a_client_that_speaks_before_the_handshake_ends_is_answered_in_tls():
    with Sink("asyncio", tls=True) as sink, socket.create_connection(("127.0.0.1", sink.port), PATIENCE) as link:
        context = ssl.create_default_context(cafile=str(sink.ca_file))
        replies = link.makefile("rb", buffering=0)
        replies.readline()
        link.sendall(b"STARTTLS\r\n")
        assert replies.readline().startswith(b"220 ")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                link.sendall(outgoing.read())
                incoming.write(link.recv(65_536))
        tls.write(b"EHLO x\r\n")  # in one segment with the end of the handshake
        link.sendall(outgoing.read())
        said = b""
        while b"250 SMTPUTF8" not in said:
            incoming.write(link.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                said += tls.read()
        assert b"AUTH PLAIN LOGIN" in said


def test_a_silent_one_takes_connections_and_says_nothing_and_the_time_of_each_message_is_kept():
    with (
        Sink("asyncio", arrivals=True) as sink,
        Sink("asyncio", silent=True, address="127.0.0.3", port=sink.port) as silent,
        socket.create_connection(("127.0.0.3", sink.port), PATIENCE) as link,
        smtplib.SMTP("127.0.0.1", sink.port) as client,
    ):
        link.sendall(b"EHLO x\r\n")
        link.setblocking(False)
        for number in range(3):
            client.sendmail("a@example.test", [f"b{number}@example.test"], "hello\r\n")
        with pytest.raises(BlockingIOError):
            link.recv(100)
        wait_until(lambda: silent.counts()["sessions"] == 2, "its counter")  # the first saw whether it is there
        assert silent.counts()["ended"] == 1
        moments = sink.arrivals()
    assert list(moments) == [f"b{number}@example.test" for number in range(3)]
    assert sorted(moments.values()) == list(moments.values())
