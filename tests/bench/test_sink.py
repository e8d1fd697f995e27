"""Which sink is chosen, and that it counts what it took."""

import shutil
import smtplib
import socket

import pytest

from bench import BenchError
from bench.processes.sink import Sink
from tests.waiting import PATIENCE, at_least, pause


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
