"""The SMTP door restarts while messages are on their way, and follows its settings."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.settings.load import load
from tests.chaos.scenarios.processes import members
from tests.flow.service import until
from tests.flow.smtp_service import SmtpService
from tests.flow.test_smtpd_program import Client, submit
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpService]:
    """API, sink and an SMTP door whose settings come from a file."""
    folder = tmp_path_factory.mktemp("door")
    settings = load({"MAILBBGUN_VAR": str(folder / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    with SmtpService(settings, authority=Authority(folder)) as service:
        service.kill("smtpd")
        file = folder / "config.py"
        file.write_text("MAX_SUBJECT_SIZE = 100\n")
        service.only["smtpd"]["CONFIG"] = str(file)
        service.start_smtpd()
        yield service


def config_of(door: SmtpService) -> Path:
    return Path(door.only["smtpd"]["CONFIG"])


def put(door: SmtpService, **changes: Any) -> None:
    answer = door.http.put(f"{door.url}/config", json=changes, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def restart(door: SmtpService) -> int:
    answer = door.http.post(f"{door.url}/restart", json={"of": "smtpd"}, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["restarts"])


def restarts(door: SmtpService, said: str = " smtpd_restarted") -> int:
    return (door.var / "smtpd.out").read_text().count(said)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_restart_drops_no_message_in_data_and_is_never_out_of_reach(door: SmtpService) -> None:
    before = restarts(door)
    with Client(door, "slow@example.com") as slow, Client(door, "waiting@example.com") as waiting:
        slow.begin()
        restart(door)

        def over() -> bool:
            assert listens(door.smtp_port)
            return restarts(door) > before

        until(over, what="the restart")
        code, text = waiting.reply()
        assert (code, text[:5]) == (421, b"4.3.2")
        submit(door, "new@example.com")  # the new door takes mail while the old one waits for its last message
        slow.smtp.send(b"the rest\r\n.\r\n")
        assert slow.reply()[0] == 250
        assert slow.reply()[0] in (421, 0)
    assert door.sent_to("slow@example.com")
    assert door.sent_to("new@example.com")
    assert door.sent_to("waiting@example.com") is None
    newest = door.get("/audit")["audit"][0]
    assert newest["action"] == "smtpd.restart"


def test_a_door_that_stops_waits_for_the_messages_of_the_door_before_it(door: SmtpService) -> None:
    before = restarts(door)
    with Client(door, "before@example.com") as slow:
        slow.begin()
        restart(door)
        until(lambda: restarts(door) > before, what="the restart")
        process = door.processes.pop("smtpd")
        process.terminate()
        until(lambda: not listens(door.smtp_port), what="the end of the new door")
        slow.smtp.send(b"the rest\r\n.\r\n")
        assert slow.reply()[0] == 250
        assert process.wait(PATIENCE) == 0
    door.start_smtpd()
    assert door.sent_to("before@example.com")


def test_a_restart_reads_the_file_anew_and_goes_on_with_the_old_one_if_it_is_wrong(door: SmtpService) -> None:
    file = config_of(door)
    before = restarts(door, "smtpd_not_restarted")
    file.write_text("MAX_RECIPIENTS = 0\n")
    restart(door)
    until(lambda: restarts(door, "smtpd_not_restarted") > before, what="the line in the log")
    assert "MAX_RECIPIENTS: 0 is less than 1" in (door.var / "smtpd.out").read_text()
    submit(door, "still@example.com")

    file.write_text("MAX_RECIPIENTS = 1\n")
    before = restarts(door)
    restart(door)
    until(lambda: restarts(door) > before, what="the restart")
    with Client(door, "one@example.com") as client:
        assert client.smtp.rcpt("two@example.com")[0] == 452
    file.write_text("")
    restart(door)
    until(lambda: restarts(door) > before + 1, what="the restart")


def test_limits_are_followed_in_sessions_that_are_open(door: SmtpService) -> None:
    with Client(door, "first@example.com") as client:
        put(door, MAX_RECIPIENTS=1)
        until(lambda: client.smtp.rcpt("more@example.com")[0] == 452, what="the limit")
        put(door, MAX_RECIPIENTS=None)
        until(lambda: client.smtp.rcpt("more@example.com")[0] == 250, what="the limit of the file")


def test_ports_open_and_close_and_messages_on_the_old_ones_are_taken(door: SmtpService) -> None:
    port, mx = free_port(), free_port()
    with Client(door, "moved@example.com") as slow:
        slow.begin()
        put(door, SMTPD_PORT=port, MX_LISTEN_PORT=mx)
        until(lambda: listens(port) and listens(mx), what="the new ports")
        until(lambda: not listens(door.smtp_port), what="the end of the old port")
        slow.smtp.send(b"the rest\r\n.\r\n")
        assert slow.reply()[0] == 250
    put(door, SMTPD_PORT=None, MX_LISTEN_PORT=None)
    until(lambda: listens(door.smtp_port) and not listens(port) and not listens(mx), what="the file's port")
    assert door.sent_to("moved@example.com")


def test_a_port_that_is_taken_leaves_the_door_as_it_is_until_it_is_free(door: SmtpService) -> None:
    before, port = restarts(door, "smtpd_not_restarted"), free_port()
    with socket.create_server(("127.0.0.1", port)):
        put(door, SMTPD_PORT=port)
        until(lambda: restarts(door, "smtpd_not_restarted") > before, what="the line in the log")
        submit(door, "untaken@example.com")
    until(lambda: listens(port) and not listens(door.smtp_port), what="the door at the port that is free now")
    assert restarts(door, "smtpd_not_restarted") == before + 1
    put(door, SMTPD_PORT=None)
    until(lambda: listens(door.smtp_port) and not listens(port), what="the file's port")
    assert door.sent_to("untaken@example.com")


def test_limits_of_connections_are_followed_by_a_new_door(door: SmtpService) -> None:
    put(door, SMTPD_CONNECTIONS_PER_ADDRESS=2)

    def refused() -> bool:
        with ExitStack() as stack:
            where = ("127.0.0.1", door.smtp_port)
            sockets = [stack.enter_context(socket.create_connection(where, PATIENCE)) for _ in range(3)]
            return any(one.recv(1000).startswith(b"421 4.7.0 Too many") for one in sockets)

    until(refused, what="the limit of connections")
    put(door, SMTPD_CONNECTIONS_PER_ADDRESS=None)
    until(lambda: not refused(), what="the limit of the file")


@pytest.mark.long
def test_all_processes_of_a_door_restart_and_none_drops_a_message(door: SmtpService) -> None:
    door.kill("smtpd")
    door.only["smtpd"]["SMTPD_PROCESSES"] = "2"
    told = restarts(door, "settings_changed")
    door.start_smtpd()
    try:
        until(lambda: len(members(door.processes["smtpd"].pid)) == 2, what="two processes")
        put(door, MAX_RECIPIENTS=50)  # a process that has read this knows of every restart from now on
        until(lambda: restarts(door, "settings_changed") >= told + 2, what="both follow")
        before = restarts(door)
        clients = [Client(door, f"slow{n}@example.com") for n in range(8)]
        for one in clients:
            one.begin()
        restart(door)
        until(lambda: restarts(door) >= before + 2, what="both have restarted")
        for one in clients:
            one.smtp.send(b"the rest\r\n.\r\n")
            assert one.reply()[0] == 250
            one.smtp.close()
    finally:
        del door.only["smtpd"]["SMTPD_PROCESSES"]
    assert all(door.sent_to(f"slow{n}@example.com") for n in range(8))
