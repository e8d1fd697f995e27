"""The gunicorn worker: it stops, reloads and restarts; operators' hooks and logs work."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.http.refusals import MOST_OF_ONE
from tests.flow.service import Service, until
from tests.http.conftest import ROOT, Door
from tests.server.test_slow_clients import BODY, answer, api, connect, get, post
from tests.servers.process import free_port
from tests.waiting import PATIENCE


def log_of(door: Door) -> str:
    return (door.var / "api.out").read_text()


def workers(door: Door) -> set[int]:
    """Return the process ids of gunicorn's workers."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(door.process.pid)], capture_output=True, text=True, check=False
    )
    return {int(pid) for pid in found.stdout.split()}


@contextmanager
def message_in_flight(door: Door) -> Iterator[Any]:
    """Yield the responses to a client whose message waits for the database until the block ends."""
    with connect(door, get(b"/health") + post(BODY)) as line, line.makefile("rb") as answers:
        with door.services.db.write() as session:
            session.connection()  # begins the transaction; SQLite has one writer
            assert answer(answers)[0] == 200
            # The poller serves in turn: once it has answered a later request, it has begun the
            # message.
            with connect(door, get(b"/health")) as other, other.makefile("rb") as more:
                assert answer(more)[0] == 200
            yield answers
        assert answer(answers)[0] == 201
        assert answers.read() == b""


def test_a_stopping_process_answers_begun_requests_and_closes_idle_connections(tmp_path: Path) -> None:
    with api(tmp_path) as door:
        with message_in_flight(door), connect(door, get(b"/health")) as idle, connect(door, post(BODY)[:60]) as half:
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            door.process.terminate()
            assert idle.recv(100) == b""
            assert half.recv(100).startswith(b"HTTP/1.1 408")
            assert door.process.poll() is None
        assert door.process.wait(PATIENCE) == 0


def test_a_reload_loses_no_request(tmp_path: Path) -> None:
    with api(tmp_path) as door:
        old = workers(door)
        with message_in_flight(door):
            door.process.send_signal(signal.SIGHUP)
            until(lambda: workers(door) - old, what="a new process")
            with connect(door, get(b"/health")) as line, line.makefile("rb") as answers:
                assert answer(answers)[0] == 200
        until(lambda: not workers(door) & old, what="the end of the old process")
        assert door.get("/health") == {"status": "ok"}


@pytest.mark.long
def test_processes_that_are_replaced_after_so_many_requests_lose_none(tmp_path: Path) -> None:
    with api(tmp_path, max_requests=5) as door:
        old = workers(door)
        for number in range(24):
            with (
                connect(door, post(BODY) if number % 2 else get(b"/messages?limit=1")) as line,
                line.makefile("rb") as answers,
            ):
                assert answer(answers)[0] == (201 if number % 2 else 200)
        until(lambda: workers(door) and not workers(door) & old, what="another process")
        assert log_of(door).count("Autorestarting worker") >= 3


HOOKS = """
globals().update(__import__("runpy").run_path({ours!r}))
accesslog = "-"
access_log_format = "seen %(m)s %(U)s %(s)s"
def pre_request(worker, req):
    worker.log.info("before %s", req.path)
def post_request(worker, req, environ, resp):
    worker.log.info("after %s %s", req.path, resp.status)
"""


def test_hooks_and_the_access_log_see_each_request(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(HOOKS.format(ours=str(ROOT / "gunicorn.conf.py")))
    with api(tmp_path, command=["-m", "gunicorn", "-c", str(tmp_path / "conf.py"), "api:app"]) as door:
        too_large = b"PUT /large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
        for request, status in ((get(b"/nothing"), 404), (post(BODY), 201), (post(b"{"), 400), (too_large, 413)):
            with connect(door, request) as line, line.makefile("rb") as answers:
                assert answer(answers)[0] == status
        for line in (
            "seen GET /nothing 404",
            "seen POST /messages 201",
            "seen POST /messages 400",
            "seen PUT /large 413",
        ):
            until(lambda line=line: line in log_of(door), what=line)
        assert "before /nothing" in log_of(door)
        assert "after /messages 201 CREATED" in log_of(door)


def test_however_much_is_refused_the_log_gets_few_lines(tmp_path: Path) -> None:
    refused = {
        400: b"GET /nothing HTTP/1.1\nHost: localhost\n\n",
        413: b"PUT /large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        414: b"GET /" + b"x" * 10_000,
        431: b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    }
    with api(tmp_path) as door:
        for status, request in refused.items():
            for _ in range(8 * MOST_OF_ONE):
                with connect(door, request) as line, line.makefile("rb") as answers:
                    assert answer(answers)[0] == status
        door.process.terminate()
        assert door.process.wait(PATIENCE) == 0
    lines = log_of(door).splitlines()
    for status in refused:
        told = [line for line in lines if f"request_refused client=127.0.0.1 status={status} " in line]
        assert 0 < len(told) <= 4 * MOST_OF_ONE
    assert any("refusals_left_out" in line for line in lines)
    assert "Invalid request" not in log_of(door)


def test_sockets_of_systemd_are_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # As systemd does (sd_listen_fds): the socket is file 3, and the environment says whose it
        # is.
        passing = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.argv[2], sys.argv[2:])"
        )
        command = [sys.executable, "-c", passing, str(listener.fileno()), sys.executable, str(ROOT / "api.py")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
        environment |= {"MAILBBGUN_VAR": str(tmp_path), "LISTEN_FDS": "1"}
        subprocess.run(
            [sys.executable, str(ROOT / "initdb.py")], env=environment | {"LISTEN_FDS": "0"}, cwd=tmp_path, check=True
        )
        with subprocess.Popen(
            command, env=environment, cwd=tmp_path, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
        ) as process:
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line,
                    line.makefile("rb") as answers,
                ):
                    line.sendall(get(b"/health"))
                    assert answer(answers)[0] == 200
            finally:
                process.terminate()
            assert process.wait(20) == 0


def test_gunicorn_without_our_configuration_exits(embedded_settings, tmp_path):
    with Service(embedded_settings) as service:
        argv = [sys.executable, "-m", "gunicorn", "--chdir", str(ROOT), "-b", f"127.0.0.1:{free_port()}", "api:app"]
        environment = service.environment | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 3
        assert "gunicorn did not read gunicorn.conf.py" in done.stderr
