"""The SMTP door beside thousands of silent clients, and against clients that follow no grammar."""

import base64
import os
import random
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailbbgun.core.process import allow_open_files
from mailbbgun.settings.load import load
from tests.flow.service import until
from tests.flow.smtp_service import SmtpService
from tests.smtp.authority import Authority
from tests.waiting import PATIENCE

pytestmark = pytest.mark.long

IDLE = 2000
SEQUENCES = 400
MB = 2**20


@pytest.fixture
def door(tmp_path: Path) -> Iterator[SmtpService]:
    """API, sink and SMTP door on SQLite."""
    settings = load({"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    limits = {"SMTPD_CONNECTIONS": IDLE + 100, "SMTPD_CONNECTIONS_PER_ADDRESS": IDLE + 100}
    with SmtpService(settings, authority=Authority(tmp_path), **limits, UNAUTHORIZED_PER_MINUTE=0) as service:
        yield service


class Figures:
    """What the door's process holds now."""

    def __init__(self, door: SmtpService) -> None:
        process = Path(f"/proc/{door.processes['smtpd'].pid}")
        (resident,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
        self.memory = int(resident.split()[1]) * 1024
        self.files = len(os.listdir(process / "fd"))
        self.threads = len(os.listdir(process / "task"))


def submit(door: SmtpService, count: int, name: str) -> None:
    """Submit mails one after the other."""
    with door.smtp() as client:
        for number in range(count):
            mail = f"From: shop@example.com\r\nSubject: {number}\r\n\r\nHello\r\n"
            assert client.sendmail("shop@example.com", [f"{name}-{number}@example.com"], mail) == {}


def test_two_thousand_silent_clients_cost_little_memory_and_keep_nobody_out(door: SmtpService) -> None:
    allow_open_files(IDLE + 500)
    submit(door, 50, "before")
    before = Figures(door)
    with ExitStack() as stack:
        for _ in range(IDLE):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", door.smtp_port), PATIENCE))
            assert link.recv(4) == b"220 "
        held = Figures(door)
        assert held.files - before.files >= IDLE - 20  # those of the sender may have been open still
        assert held.memory - before.memory < 100 * MB
        submit(door, 50, "beside")
    until(lambda: Figures(door).files <= before.files + 20, what="the end of all connections")
    assert door.get("/messages?limit=0&status=PENDING")["count"] == 100


# -- a grammar that is broken at random

ADDRESSES = [
    "<ann@example.com>",
    "<>",
    "<nobody>",
    "<@a,@b:ann@example.com>",
    '<"a b"@example.com>',
    "<a@b",
    "a@b>",
    "<" + "x" * 2000 + "@example.com>",
    "<ä@example.com>",
    "<a@[127.0.0.1]>",
    "<postmaster>",
]
PARAMETERS = [
    "",
    " SIZE=10",
    " SIZE=99999999999999999999",
    " SIZE=x",
    " BODY=8BITMIME",
    " SMTPUTF8",
    " AUTH=<>",
    " X=Y",
]
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n\r\n", b"", b"\0\r\n", b"\r\r\n"]
BODIES = [
    b"Subject: x\r\n\r\nHello\r\n.\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"Subject: x\r\n\r\n.\n.\r\n.\r\n",
    b"\xff\xfe\0\r\n.\r\n",
    b"x" * 3000 + b"\r\n.\r\n",
    b"From: a@b.example\r\nX-MBG-Metadata: {\r\n\r\n.\r\n",
    b": \r\n\r\n.\r\n",
]


class Dice:
    """Draws what a client sends."""

    def __init__(self, seed: int, key: str) -> None:
        self.random = random.Random(seed)
        self._key = key

    def line(self) -> bytes:
        """Return a command, or something like it."""
        draw = self.random.choice
        login = base64.b64encode(f"\0any\0{draw([self._key, 'wrong', '', 'x' * 500])}".encode()).decode()
        text = draw(
            [
                "EHLO client.example.com",
                "EHLO",
                "HELO x",
                f"MAIL FROM:{draw(ADDRESSES)}{draw(PARAMETERS)}",
                "MAIL FROM:<shop@example.com>",
                "RCPT TO:<ann@example.com>",
                f"RCPT TO:{draw(ADDRESSES)}{draw(PARAMETERS)}",
                "DATA",
                "DATA",
                "RSET",
                "NOOP",
                "VRFY ann",
                "EXPN x",
                "HELP",
                "STARTTLS",
                "STARTTLS now",
                "BDAT 5 LAST",
                f"AUTH PLAIN {login}",
                f"AUTH PLAIN {login}",
                "AUTH PLAIN",
                "AUTH LOGIN",
                "AUTH LOGIN =",
                "AUTH CRAM-MD5",
                "*",
                login,
                "QUIT",
                "",
                " ",
                "x" * draw([10, 600, 5000]),
                "mail from : <a@b.example>",
                "\u00fc\u00df",
                "GET / HTTP/1.1",
            ]
        )
        return text.encode() + draw(ENDS)

    def sequence(self) -> bytes:
        """Return what a whole connection sends: often a login and a message, then anything."""
        plain = base64.b64encode(f"\0any\0{self._key}".encode())
        begin = [b"EHLO client.example.com\r\n", b"AUTH PLAIN " + plain + b"\r\n"]
        envelope = [b"MAIL FROM:<shop@example.com>\r\n", b"RCPT TO:<ann@example.com>\r\n", b"DATA\r\n"]
        lines = begin[: self.random.randint(0, 2)]
        for _ in range(self.random.randint(1, 12)):
            lines += [*envelope, self.random.choice(BODIES)] if self.random.random() < 0.2 else [self.line()]
        if self.random.random() < 0.1:
            lines.insert(self.random.randrange(len(lines)), self.random.randbytes(200))
        return b"".join(lines)


def talk(door: SmtpService, dice: Dice) -> None:
    """Send a sequence in pieces, then no more; the door must close the connection by itself."""
    given = dice.sequence()
    with socket.create_connection(("127.0.0.1", door.smtp_port), PATIENCE) as link:
        heard = b""
        try:
            while given:
                size = dice.random.choice([1, 3, 50, 1000, 100_000])
                link.sendall(given[:size])
                given = given[size:]
            if dice.random.random() < 0.3:
                return  # it hangs up in the midst of everything
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65_536):
                heard += piece
        except TimeoutError:
            raise
        except OSError:  # the door hung up first
            pass
        assert not heard or heard[:3].isdigit(), heard[:200]


def test_clients_that_follow_no_grammar_leave_nothing_behind(door: SmtpService) -> None:
    def sequences(first: int, count: int) -> None:
        for seed in range(first, first + count):
            talk(door, Dice(seed, door.smtp_key))

    sequences(0, SEQUENCES // 4)  # threads are started, and memory that is kept is taken
    submit(door, 5, "before")
    before = Figures(door)
    sequences(SEQUENCES // 4, SEQUENCES)
    assert door.processes["smtpd"].poll() is None
    submit(door, 5, "after")
    until(lambda: Figures(door).files <= before.files + 5, what="the end of all connections")
    after = Figures(door)
    assert after.memory - before.memory < 30 * MB
    assert after.threads <= before.threads + 8  # those of the pools, which have bounds
    said = (door.var / "smtpd.out").read_text()
    assert "Traceback" not in said
    assert " unexpected" not in said


def test_a_handshake_that_is_none_ends_the_connection_and_nothing_else(door: SmtpService) -> None:
    with socket.create_connection(("127.0.0.1", door.smtp_port), PATIENCE) as link:
        assert link.recv(1000).startswith(b"220 ")
        link.sendall(b"EHLO x\r\n")
        assert b"STARTTLS" in link.recv(1000)
        link.sendall(b"STARTTLS\r\n")
        assert link.recv(1000).startswith(b"220 ")
        link.sendall(b"MAIL FROM:<shop@example.com>\r\n" * 10)
        rest = b""
        try:
            while piece := link.recv(1000):
                rest += piece
        except ConnectionError:
            pass
        assert b"250" not in rest
    with smtplib.SMTP("127.0.0.1", door.smtp_port, timeout=PATIENCE) as client:
        client.starttls(context=ssl.create_default_context(cafile=door.ca_file))
        assert client.noop()[0] == 250
