"""Connections to the catcher: many, slow, of another protocol, and at its end."""

import signal
import subprocess
import sys
import threading
from email import message_from_bytes
from pathlib import Path

import pytest

from mailbbgun.catcher.conversation import HTTP_METHODS
from mailbbgun.catcher.main import OTHER_FILES
from tests.catcher.conftest import ROOT, Catcher, Raw, environment
from tests.waiting import PATIENCE, at_least, pause


def test_many_connections_at_once_lose_nothing(catcher: Catcher) -> None:
    def send(number: int) -> None:
        with catcher.smtp() as smtp:
            for turn in range(10):
                smtp.sendmail("a@b.test", ["c@d.test"], f"Subject: {number}.{turn}\r\n\r\nx\r\n".encode())

    senders = [threading.Thread(target=send, args=(number,)) for number in range(20)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    subjects = [message_from_bytes(content)["Subject"] for content in catcher.kept()]
    assert sorted(subjects) == sorted(f"{number}.{turn}" for number in range(20) for turn in range(10))


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_lets_data_end_and_exits_0(catcher: Catcher, which: signal.Signals) -> None:
    with Raw(catcher.port) as raw, Raw(catcher.port) as idle:
        raw.begin_data()
        raw.link.sendall(b"Subject: last\r\n\r\n")
        catcher.process.send_signal(which)
        pause(0.2)
        assert raw.say(b"x\r\n.").startswith(b"250")
        assert catcher.process.wait(PATIENCE) == 0
        assert idle.link.recv(100) == b""
    assert catcher.only()["Subject"] == "last"


def test_a_port_in_use_is_one_clear_line_and_exit_code_1(catcher: Catcher, tmp_path: Path) -> None:
    taken = environment(tmp_path / "other", catcher.port)
    second = subprocess.run(
        [sys.executable, "-m", "mailbbgun.catcher"], cwd=ROOT, env=taken, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    said = (
        f"cannot listen on 127.0.0.1:{catcher.port}: Address already in use; MAILBBGUN_CATCHER_PORT sets another port"
    )
    assert second.stderr == f"catcher: {said}\n"
    assert not (tmp_path / "other").exists()


SMUGGLED = (
    b"EHLO a.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: from a web page\r\n\r\nx\r\n.\r\n"
)


@pytest.mark.parametrize(
    "opening",
    [
        *(b"%b / HTTP/1.1\r\nHost: localhost\r\n\r\n" % method.encode() for method in HTTP_METHODS),
        b"GET /\r\n",
        b"post / http/1.0\r\n",
        b"PURGE / HTTP/1.1\r\n",
        b"POST /" + b"x" * 5000 + b" HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n",
        b"FOOBAR /" + b"x" * 5000 + b" HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n",
    ],
    ids=[
        *HTTP_METHODS,
        "HTTP 0.9",
        "lower case",
        "another method",
        "a long path",
        "another method and a long path",
        "TLS",
    ],
)
def test_a_connection_that_begins_with_another_protocol_is_hung_up_on_and_none_of_its_lines_is_a_command(
    shared: Catcher, opening: bytes
) -> None:
    for pieces in ([opening + SMUGGLED], [opening[:2], opening[2:], SMUGGLED]):
        with Raw(shared.port) as raw:
            said = b""
            try:
                for piece in pieces:
                    raw.link.sendall(piece)
                while chunk := raw.link.recv(4096):
                    said += chunk
            except ConnectionError:  # the catcher closed before it had read everything
                pass
            assert said in (b"", b"421 4.7.0 This is an SMTP server: no HTTP, no TLS\r\n")
    assert shared.kept() == []


def test_a_request_line_among_commands_ends_the_connection_before_what_follows_it(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        assert raw.say(b"EHLO client.test").startswith(b"250")
        raw.link.sendall(b"NOOP\r\nGET / HTTP/1.1\r\n" + SMUGGLED)
        assert raw.reply().startswith(b"250")
        assert raw.reply().startswith(b"421 4.7.0")
        assert raw.reply() == b""
    assert shared.kept() == []


def test_connections_that_say_nothing_keep_nobody_out_and_whoever_sends_mail_stays(tmp_path: Path) -> None:
    most = 20
    catcher = Catcher(tmp_path / "var", files=most + OTHER_FILES)
    with Raw(catcher.port) as sending, Raw(catcher.port) as talking:
        sending.begin_data()
        talking.say(b"EHLO client.test")
        silent = [Raw(catcher.port) for _ in range(2 * most)]
        assert silent[0].reply().startswith(b"421 4.3.2 Too many connections")  # the longest idle one
        with Raw(catcher.port, "127.0.0.2") as other:  # the only one of its address, so it may stay
            silent += [Raw(catcher.port) for _ in range(most)]
            assert other.say(b"NOOP").startswith(b"250")
        assert talking.say(b"NOOP").startswith(b"250")
        assert sending.say(b"Subject: kept\r\n\r\nx\r\n.").startswith(b"250")
        for one in silent:
            one.__exit__()
    assert catcher.only()["Subject"] == "kept"
    assert catcher.log().count("closed_to_make_room") == 1
    assert catcher.stop() == 0


def test_for_a_slow_recipient_the_dot_is_answered_late_and_others_are_served_meanwhile(catcher: Catcher) -> None:
    with Raw(catcher.port) as slow:
        slow.say(b"EHLO client.test")
        slow.say(b"MAIL FROM:<a@b.test>")
        slow.say(b"RCPT TO:<slow+2@simulator>")
        slow.say(b"DATA")
        with at_least(1.9):
            slow.link.sendall(b"Subject: slow\r\n\r\nx\r\n.\r\n")
            with catcher.smtp() as smtp:
                smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: fast\r\n\r\nx\r\n")
            assert slow.reply().startswith(b"250")
    assert [message_from_bytes(content)["Subject"] for content in catcher.kept()] == ["fast", "slow"]


def test_a_client_that_leaves_before_the_late_reply_leaves_no_message_behind(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        raw.say(b"MAIL FROM:<a@b.test>")
        raw.say(b"RCPT TO:<slow+0.4@simulator>")
        raw.say(b"DATA")
        raw.link.sendall(b"Subject: slow\r\n\r\nx\r\n.\r\n")
    with catcher.smtp() as smtp:
        smtp.sendmail("a@b.test", ["slow+0.6@simulator"], b"Subject: later\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "later"
