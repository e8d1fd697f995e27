"""``smtpd.py`` as a program: it starts, stops, has several processes, and outlives its database."""

import os
import signal
import smtplib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from mailbbgun.settings.load import load
from tests.chaos.proxy import Proxy
from tests.chaos.scenarios.processes import members
from tests.flow.service import Service, last_words, until
from tests.flow.smtp_service import SmtpService
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.waiting import PATIENCE

SMTPD = [sys.executable, "smtpd.py"]
GRACE = 2
MAIL = b"From: shop@example.com\r\nTo: ann@example.com\r\nSubject: %b\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpService]:
    """API, sink and SMTP door on SQLite. Each test that ends the door starts it again."""
    folder = tmp_path_factory.mktemp("program")
    settings = load({"MAILBBGUN_VAR": str(folder / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    with SmtpService(settings, authority=Authority(folder), SHUTDOWN_GRACE=GRACE) as service:
        yield service


@pytest.fixture
def ended(door: SmtpService) -> Iterator[SmtpService]:
    """A service whose door the test ends."""
    yield door
    if "smtpd" in door.processes:
        door.kill("smtpd")
    door.start_smtpd()


class Client:
    """A client that has said what comes before the message."""

    def __init__(self, door: SmtpService, to: str) -> None:
        self.smtp = smtplib.SMTP("127.0.0.1", door.smtp_port, timeout=PATIENCE)
        self.smtp.login("anybody", door.smtp_key)
        self.smtp.mail("shop@example.com")
        self.smtp.rcpt(to)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.smtp.close()

    def begin(self) -> None:
        """Begin to send the message."""
        assert self.smtp.docmd("DATA")[0] == 354
        self.smtp.send(b"From: shop@example.com\r\nSubject: half\r\n\r\n")

    def reply(self) -> tuple[int, bytes]:
        """Return the next reply; (0, …) if the connection was closed."""
        try:
            return self.smtp.getreply()
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            return 0, b""


def submit(door: SmtpService, to: str) -> None:
    with door.smtp() as client:
        assert client.sendmail("shop@example.com", [to], MAIL % to.encode()) == {}


def test_told_to_stop_it_takes_the_message_that_comes_and_tells_the_others(ended: SmtpService) -> None:
    with Client(ended, "busy@example.com") as busy, Client(ended, "idle@example.com") as idle:
        busy.begin()
        process = ended.processes.pop("smtpd")
        process.terminate()
        code, text = idle.reply()
        assert (code, text[:2]) == (421, b"4.")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", ended.smtp_port)), "it listens still"
        busy.smtp.send(b"the rest\r\n.\r\n")
        assert busy.reply()[0] == 250
        assert process.wait(PATIENCE) == 0
    assert ended.sent_to("busy@example.com")
    assert ended.sent_to("idle@example.com") is None


def test_a_client_that_does_not_end_its_message_does_not_hold_it_up(ended: SmtpService) -> None:
    with Client(ended, "endless@example.com") as busy:
        busy.begin()
        assert ended.stop("smtpd") == 0
        assert busy.reply()[0] in (421, 0)
    assert ended.sent_to("endless@example.com") is None


def test_killed_it_has_kept_whatever_it_has_answered(ended: SmtpService) -> None:
    submit(ended, "kept@example.com")
    ended.kill("smtpd")
    assert ended.sent_to("kept@example.com")


@pytest.mark.long
def test_several_processes_take_mail_and_one_that_dies_is_replaced(ended: SmtpService) -> None:
    ended.kill("smtpd")
    ended.only["smtpd"] = {"SMTPD_PROCESSES": "2"}
    ended.start_smtpd()
    leader = ended.processes["smtpd"].pid
    try:
        first = until(lambda: found if len(found := members(leader)) == 2 else None, what="two processes")
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(now := members(leader)) == 2 and now != first, what="a process in place of the dead one")

        def taken() -> bool:  # until then, the port may belong to a process that is not ready
            try:
                submit(ended, "after@example.com")
            except OSError:
                return False
            return True

        until(taken, what="mail is taken")
        assert ended.stop("smtpd") == 0
        until(lambda: not any(map(alive, {*first, *members(leader)})), what="the end of all processes")
    finally:
        del ended.only["smtpd"]["SMTPD_PROCESSES"]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_second_one_is_told_that_the_port_is_taken(door: SmtpService) -> None:
    for more in ({}, {"SMTPD_PROCESSES": "2"}):
        (line,) = last_words(door, SMTPD, code=1, **more)
        told = f"smtpd: cannot listen on 127.0.0.1:{door.smtp_port}: Address already in use"
        assert line == f"{told}; MAILBBGUN_SMTPD_PORT sets another port"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SMTPD_PORT": "0"}, "SMTPD_PORT: the SMTP door has no port"),
        ({"SMTPD_BUFFER_SIZE": "1000000"}, "SMTPD_BUFFER_SIZE: 1000000 is less than MAX_MESSAGE_SIZE"),
        ({"SMTPD_HOST": "0.0.0.0", "SMTPD_TLS_CERT": ""}, "SMTPD_TLS_CERT: clients of 0.0.0.0 log in with API keys"),
        ({"SMTPD_HOST": "192.0.2.1"}, "SMTPD_HOST: 192.0.2.1 is no address of this machine"),
        ({"SMTPD_TLS_CERT": "/nowhere/cert.pem"}, "SMTPD_TLS_CERT: "),
        ({"SMTPD_BARE_NEWLINES": "keep"}, "SMTPD_BARE_NEWLINES: 'keep' is not one of refuse, normalise"),
    ],
    ids=["no port", "no room", "no certificate", "no address", "no file", "no policy"],
)
def test_settings_that_it_cannot_serve_are_one_line(door: SmtpService, settings: dict[str, Any], told: str) -> None:
    (line,) = last_words(door, SMTPD, code=os.EX_CONFIG, **{"SMTPD_PORT": str(free_port())} | settings)
    assert line.startswith(f"smtpd: {told}")


@pytest.mark.long
def test_without_its_database_it_asks_clients_to_come_again_and_takes_mail_once_it_is_back(
    tmp_path: Path, postgresql: Any
) -> None:
    database, port = postgresql.create_database(), free_port()
    url = make_url(postgresql.url(database))
    proxy = Proxy(url.port)
    proxy.port = port
    away = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    settings = {"VAR": str(tmp_path / "var"), "HOSTNAME": "mail.example.com", "DATABASE_URL": away}
    service = Service(load({f"MAILBBGUN_{name}": value for name, value in settings.items()}))
    direct = service.environment | {"MAILBBGUN_DATABASE_URL": url.render_as_string(hide_password=False)}
    service.environment, through = direct, service.environment
    service.run("initdb.py")
    key = service.run("bin/mailbbgun", "key", "create", "--scope", "smtp", "--quiet").strip()
    service.environment = through
    try:
        service.start_smtpd()
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            log_in(service, key)
        assert caught.value.smtp_code in (451, 454)
        with proxy:

            def taken() -> bool:
                try:
                    with log_in(service, key) as client:
                        client.sendmail("shop@example.com", ["back@example.com"], MAIL % b"back")
                except smtplib.SMTPResponseException as error:
                    if error.smtp_code >= 500:
                        raise
                    return False
                return True

            until(taken, what="mail is taken")
            assert service.sql("SELECT count(*) FROM deliveries WHERE address = 'back@example.com'")[0][0] == 1
            assert service.stop("smtpd") == 0
    finally:
        for name in [*service.processes]:
            service.kill(name)
        postgresql.drop_database(database)


def log_in(service: Service, key: str) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", service.smtp_port, timeout=PATIENCE)
    try:
        client.login("anybody", key)
    except BaseException:
        client.close()
        raise
    return client
