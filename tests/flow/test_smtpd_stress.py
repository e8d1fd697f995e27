"""The SMTP door beside thousands of silent clients. For clients that follow no grammar: tests/smtpd/fuzz.py."""

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
from tests.smtpd.gauges import DoorFigures
from tests.waiting import PATIENCE

pytestmark = pytest.mark.long

IDLE = 2000
MB = 2**20


@pytest.fixture
def door(tmp_path: Path) -> Iterator[SmtpService]:
    """API, sink and SMTP door on SQLite."""
    settings = load({"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    limits = {"SMTPD_CONNECTIONS": IDLE + 100, "SMTPD_CONNECTIONS_PER_ADDRESS": IDLE + 100}
    with SmtpService(settings, authority=Authority(tmp_path), **limits, UNAUTHORIZED_PER_MINUTE=0) as service:
        yield service


def submit(door: SmtpService, count: int, name: str) -> None:
    """Submit mails one after the other."""
    with door.smtp() as client:
        for number in range(count):
            mail = f"From: shop@example.com\r\nSubject: {number}\r\n\r\nHello\r\n"
            assert client.sendmail("shop@example.com", [f"{name}-{number}@example.com"], mail) == {}


def test_two_thousand_silent_clients_cost_little_memory_and_keep_nobody_out(door: SmtpService) -> None:
    allow_open_files(IDLE + 500)
    submit(door, 50, "before")
    before = DoorFigures(door)
    with ExitStack() as stack:
        for _ in range(IDLE):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", door.smtp_port), PATIENCE))
            assert link.recv(4) == b"220 "
        held = DoorFigures(door)
        assert held.files - before.files >= IDLE - 20  # those of the sender may have been open still
        assert held.memory - before.memory < 100 * MB
        submit(door, 50, "beside")
    until(lambda: DoorFigures(door).files <= before.files + 20, what="the end of all connections")
    assert door.get("/messages?limit=0&status=PENDING")["count"] == 100


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
