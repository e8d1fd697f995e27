"""The mail catcher, as a process of its own, through real SMTP."""

import os
import resource
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from mailbbgun.catcher.conversation import HTTP_METHODS
from mailbbgun.catcher.main import OTHER_FILES
from tests.servers.process import free_port
from tests.waiting import PATIENCE, at_least, pause, wait_until

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


class Catcher:
    """A running catcher."""

    def __init__(self, var: Path, *, files: int | None = None, **settings: object) -> None:
        given = {f"MAILBBGUN_{name}": str(value) for name, value in settings.items()}
        self.port, self.mail, self._log = free_port(), var / "mail", var.with_suffix(".log")
        limited = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*limited, sys.executable, "-W", "error", "-m", "mailbbgun.catcher"],
                cwd=ROOT,
                env=environment(var, self.port) | given,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: "catching" in self.log() or self.process.poll() is not None, "a catcher that listens")
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        """Return what it printed so far."""
        return self._log.read_text()

    def kept(self) -> list[bytes]:
        """Return the messages in new/, oldest first."""
        return [
            file.read_bytes()
            for file in sorted((self.mail / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        ]

    def only(self) -> Message:
        """Return the one message in new/."""
        (content,) = self.kept()
        return message_from_bytes(content)

    def smtp(self) -> smtplib.SMTP:
        """Connect."""
        return smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=PATIENCE)

    def peak_memory(self) -> int:
        """Return the most memory it ever had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and return its exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(PATIENCE)


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.link = socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0))
        self._lines = self.link.makefile("rb")
        self.reply()

    def reply(self) -> bytes:
        """Return the last line of the next reply."""
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        return line.rstrip(b"\r\n")

    def say(self, line: bytes) -> bytes:
        """Send a command and return its reply."""
        self.link.sendall(line + b"\r\n")
        return self.reply()

    def begin_data(self) -> None:
        """Get as far as 354."""
        for line in (b"EHLO client.test", b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>"):
            assert self.say(line).startswith(b"250")
        assert self.say(b"DATA").startswith(b"354")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.link.close()


def environment(var: Path, port: int) -> dict[str, str]:
    """Return the environment of a catcher."""
    return os.environ | {"MAILBBGUN_VAR": str(var), "MAILBBGUN_CATCHER_PORT": str(port)}


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[Catcher]:
    """A catcher, which must end well."""
    one = Catcher(tmp_path / "var")
    yield one
    assert one.process.poll() is not None or one.stop() == 0
    assert "Traceback" not in one.log()


def test_a_message_is_kept_as_sent_with_its_envelope_on_top(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        smtp.sendmail(
            "a@b.test", ["c@d.test", "e@f.test"], b"Subject: hi\r\nTo: someone else\r\n\r\n.dot\r\n..\r\nend\r\n"
        )
    top = b"X-Envelope-From: a@b.test\nX-Envelope-To: c@d.test\nX-Envelope-To: e@f.test\n"
    assert catcher.kept() == [top + b"Subject: hi\nTo: someone else\n\n.dot\n..\nend\n"]
    assert list((catcher.mail / "tmp").iterdir()) == []


def test_an_empty_message_from_nobody_is_kept(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        assert raw.say(b"EHLO client.test").startswith(b"250")
        assert raw.say(b"MAIL FROM:<>").startswith(b"250")
        assert raw.say(b"RCPT TO:<c@d.test>").startswith(b"250")
        assert raw.say(b"DATA").startswith(b"354")
        assert raw.say(b".").startswith(b"250")
    assert catcher.kept() == [b"X-Envelope-From: <>\nX-Envelope-To: c@d.test\n"]


def test_it_offers_what_it_does(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        smtp.ehlo()
        assert set(smtp.esmtp_features) == {"size", "8bitmime", "smtputf8", "pipelining", "help"}
        assert smtp.esmtp_features["size"] == str(35 * MEGABYTE)


def test_pipelined_transactions_are_answered_one_by_one(catcher: Catcher) -> None:
    transaction = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        raw.link.sendall(transaction)
        assert [raw.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        raw.link.sendall(b"Subject: 1\r\n\r\n1\r\n.\r\n" + transaction)
        assert [raw.reply()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        raw.link.sendall(b"Subject: 2\r\n\r\n2\r\n.\r\nQUIT\r\n")
        assert [raw.reply()[:3] for _ in range(2)] == [b"250", b"221"]
    assert len(catcher.kept()) == 2


SMUGGLED = {
    "lflf": b"\n.\n", "crcr": b"\r.\r", "crlf": b"\r.\n", "lfcr": b"\n.\r", "lfcrlf": b"\n.\r\n", "crlflf": b"\r\n.\n", "crcrlf": b"\r.\r\n",
    "crlfcr": b"\r\n.\r", "null-before": b"\r\n\x00.\r\n", "null-after": b"\r\n.\x00\r\n", "crcrlfcrcrlf": b"\r\r\n.\r\r\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    """One catcher for a table of tests that must leave nothing in it."""
    one = Catcher(tmp_path_factory.mktemp("catcher") / "var")
    yield one
    assert one.stop() == 0


@pytest.mark.parametrize("end", SMUGGLED.values(), ids=SMUGGLED)
def test_no_other_end_of_data_smuggles_a_message_in(shared: Catcher, end: bytes) -> None:
    second = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<v@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
    with Raw(shared.port) as raw:
        raw.begin_data()
        raw.link.sendall(b"Subject: t\r\n\r\nbody" + end + second)
        assert raw.reply().startswith(b"550 5.5.2")
        assert raw.say(b"NOOP").startswith(b"250"), "exactly one reply"
    assert shared.kept() == []


def test_a_message_announced_too_big_is_refused_before_it_is_sent(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b"MAIL FROM:<a@b.test> SIZE=%d" % (35 * MEGABYTE + 1)).startswith(b"552")
        assert raw.say(b"MAIL FROM:<a@b.test> SIZE=%d" % (35 * MEGABYTE)).startswith(b"250")


def test_a_message_that_grows_too_big_is_refused_and_the_connection_lives(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.begin_data()
        block = (b"x" * 998 + b"\r\n") * 1000
        for _ in range(37):
            raw.link.sendall(block)
        assert raw.say(b".").startswith(b"552")
        assert raw.say(b"NOOP").startswith(b"250")
    assert shared.kept() == []


def test_a_line_that_never_ends_takes_no_memory(shared: Catcher) -> None:
    before = shared.peak_memory()
    with Raw(shared.port) as raw:
        raw.begin_data()
        for _ in range(100):
            raw.link.sendall(b"x" * MEGABYTE)
        assert raw.say(b"\r\n.").startswith(b"500")
        assert raw.say(b"NOOP").startswith(b"250")
    assert shared.peak_memory() - before < 20 * MEGABYTE
    assert shared.kept() == []


@pytest.mark.parametrize(("length", "answer"), [(998, b"250"), (1000, b"500")])
def test_lines_have_at_most_998_characters(catcher: Catcher, length: int, answer: bytes) -> None:
    with Raw(catcher.port) as raw:
        raw.begin_data()
        assert raw.say(b"x" * length + b"\r\n.").startswith(answer)


def test_an_endless_command_is_refused(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b"NOOP " + b"x" * MEGABYTE).startswith(b"500")
        assert raw.say(b"NOOP").startswith(b"250")


def test_the_recipient_after_the_thousandth_is_asked_to_come_again(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        raw.say(b"MAIL FROM:<a@b.test>")
        raw.link.sendall(b"".join(b"RCPT TO:<r%d@d.test>\r\n" % n for n in range(1001)))
        replies = [raw.reply() for _ in range(1001)]
    assert {reply[:3] for reply in replies[:-1]} == {b"250"}
    assert replies[-1].startswith(b"452 4.5.3")


def test_addresses_cannot_forge_headers(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b'MAIL FROM:<"a\rX-Evil: 1"@b.test>').startswith(b"553")
        assert raw.say(b"MAIL FROM:<\xff\xfe@b.test> SMTPUTF8").startswith(b"553")


def test_internationalised_addresses_need_smtputf8_and_are_kept(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say("MAIL FROM:<jürgen@bücher.test>".encode()).startswith(b"553 5.6.7")
    with catcher.smtp() as smtp:
        smtp.sendmail(
            "jürgen@bücher.test", ["Ω@d.test"], "Subject: grüße\r\n\r\nß\r\n".encode(), ["SMTPUTF8", "BODY=8BITMIME"]
        )
    (content,) = catcher.kept()
    assert content == "X-Envelope-From: jürgen@bücher.test\nX-Envelope-To: Ω@d.test\nSubject: grüße\n\nß\n".encode()


def test_each_message_is_one_log_line_that_nobody_can_forge(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        subject = b"=?utf-8?q?h=C3=A9=0A2026-01-01T00:00:00Z_info_forged=1B[2J?="
        smtp.sendmail(
            "a@b.test", [f"r{n}@d.test" for n in range(5)], b"Subject: " + subject + b"\r\n folded\r\n\r\nx\r\n"
        )
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: =?nonsense?b?!?=\r\n\r\nx\r\n")
    first, second = [line for line in catcher.log().splitlines() if " caught " in line]
    assert 'from=a@b.test to="r0@d.test, r1@d.test, r2@d.test and 2 more" subject="hé' in first
    assert "folded" in first
    assert "\x1b" not in first
    assert str(catcher.mail / "new") in second


def test_a_disk_that_takes_nothing_defers_and_the_catcher_goes_on(catcher: Catcher) -> None:
    (catcher.mail / "tmp").rmdir()
    (catcher.mail / "tmp").touch()  # a file where the folder was: unwritable, also for root
    with catcher.smtp() as smtp:
        with pytest.raises(smtplib.SMTPDataError, match=r"4\.3\.1"):
            smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\nx\r\n")
        (catcher.mail / "tmp").unlink()
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 2\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "2"


def test_a_disk_that_is_full_in_the_middle_of_a_message_keeps_nothing_of_it(catcher: Catcher) -> None:
    resource.prlimit(catcher.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
    with catcher.smtp() as smtp:
        with pytest.raises(smtplib.SMTPDataError, match=r"4\.3\.1"):
            smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1000)
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 2\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "2"
    assert list((catcher.mail / "tmp").iterdir()) == []


def test_a_maildir_that_was_removed_is_made_again(catcher: Catcher) -> None:
    for name in ("tmp", "new", "cur"):
        (catcher.mail / name).rmdir()
    catcher.mail.rmdir()
    with catcher.smtp() as smtp:
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "1"


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
    said = f"catcher: cannot listen on 127.0.0.1:{catcher.port}: Address already in use; MAILBBGUN_CATCHER_PORT sets another port\n"
    assert second.stderr == said
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
            except ConnectionError:  # it closed before it had read all
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
        with Raw(catcher.port, "127.0.0.2") as other:  # of an address that has one, and it may stay
            silent += [Raw(catcher.port) for _ in range(most)]
            assert other.say(b"NOOP").startswith(b"250")
        assert talking.say(b"NOOP").startswith(b"250")
        assert sending.say(b"Subject: kept\r\n\r\nx\r\n.").startswith(b"250")
        for one in silent:
            one.__exit__()
    assert catcher.only()["Subject"] == "kept"
    assert catcher.log().count("closed_to_make_room") == 1
    assert catcher.stop() == 0


def test_recipients_of_the_simulator_are_refused_as_they_wish_and_the_others_get_their_mail(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        refused = smtp.sendmail(
            "a@b.test",
            ["bounce+1@simulator", "ann@simulator", "defer@simulator", "bounce@b.test"],
            b"Subject: 1\r\n\r\nx\r\n",
        )
    assert {address: (code, said[:5]) for address, (code, said) in refused.items()} == {
        "bounce+1@simulator": (550, b"5.1.1"),
        "defer@simulator": (451, b"4.7.1"),
    }
    assert catcher.only().get_all("X-Envelope-To") == ["ann@simulator", "bounce@b.test"]
    assert len([line for line in catcher.log().splitlines() if " refused " in line]) == 2


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


def test_who_leaves_before_the_late_answer_left_nothing_behind(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        raw.say(b"MAIL FROM:<a@b.test>")
        raw.say(b"RCPT TO:<slow+0.4@simulator>")
        raw.say(b"DATA")
        raw.link.sendall(b"Subject: slow\r\n\r\nx\r\n.\r\n")
    with catcher.smtp() as smtp:
        smtp.sendmail("a@b.test", ["slow+0.6@simulator"], b"Subject: later\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "later"


def test_of_the_mail_it_caught_the_newest_is_kept(tmp_path: Path) -> None:
    catcher = Catcher(tmp_path / "var", CATCHER_MOST=2)
    with catcher.smtp() as smtp:
        for number in range(5):
            smtp.sendmail("a@b.test", ["c@d.test"], f"Subject: {number}\r\n\r\nx\r\n".encode())
    assert [message_from_bytes(content)["Subject"] for content in catcher.kept()] == ["3", "4"]
    assert catcher.stop() == 0
