"""``bin/run`` with its real parts: what it starts, prints and leaves behind."""

import http.client
import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.process import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
SECONDS = PATIENCE


class Service:
    """One run of everything, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.var, self.port, self.catcher_port = folder / "var", free_port(), free_port()
        self.smtp_port = free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")} | {
            "MAILBBGUN_VAR": str(self.var),
            "MAILBBGUN_PORT": str(self.port),
            "MAILBBGUN_CATCHER_PORT": str(self.catcher_port),
            "MAILBBGUN_SMTPD_PORT": str(self.smtp_port),
        }
        self._output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start ``bin/run``, and wait until it has printed what to type."""
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mailbbgun.run"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops" in self.output(), self.output)

    def send(self, number: signal.Signals) -> None:
        """Signal only the runner, as ``kill`` does."""
        assert self.process
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        assert self.process
        return self.process.wait(SECONDS)

    def output(self) -> str:
        """Return what it printed."""
        return self._output.read_text()

    def alive(self) -> dict[int, str]:
        """Return every process of this run, also orphans. Our folder is in their environment."""
        mark, found = f"MAILBBGUN_VAR={self.var}\0".encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass  # ended meanwhile, or not ours
        return found

    def pid(self, part: str) -> int:
        """Return the process id of a part; of several, the first."""
        return min(pid for pid, command in self.alive().items() if part in command)


def until(true: Callable[[], bool], told: Callable[[], object]) -> None:
    """Wait until ``true()`` is true."""
    try:
        wait_until(true, look=0.05)
    except AssertionError as error:
        raise AssertionError(told()) from error


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that must leave no process behind when it ends."""
    one = Service(tmp_path)
    yield one
    until(lambda: not one.alive(), one.alive)


@pytest.fixture
def started(service: Service) -> Iterator[Service]:
    """The same service, started."""
    try:
        service.start()
        yield service
    finally:
        if service.process and service.process.poll() is None:
            service.send(signal.SIGKILL)
            service.ended()


def test_posted_mail_is_in_the_catcher_and_ctrl_c_leaves_no_process(started: Service) -> None:
    assert f"http://127.0.0.1:{started.port}/messages" in started.output()
    api = http.client.HTTPConnection("127.0.0.1", started.port, timeout=SECONDS)
    body = json.dumps({"to": "you@example.com", "subject": "It works", "text": "Hello"})
    api.request("POST", "/messages", body, {"Content-Type": "application/json"})
    assert api.getresponse().status == 201
    api.close()
    until(lambda: any((started.var / "mail" / "new").iterdir()), started.output)
    assert len(started.alive()) >= 6, "runner, catcher, worker, SMTP door, gunicorn and its process"
    with smtplib.SMTP("127.0.0.1", started.smtp_port, timeout=SECONDS) as smtp:
        assert smtp.noop()[0] == 250
    assert f"log in with an API key, on 127.0.0.1:{started.smtp_port}" in started.output()

    started.send(signal.SIGINT)
    assert started.ended() == 0
    assert started.alive() == {}
    assert "SIGINT: stopping" in started.output()
    assert "Traceback" not in started.output()


@pytest.mark.long
def test_sigterm_stops_it_and_what_was_there_starts_again(started: Service) -> None:
    started.send(signal.SIGTERM)
    assert started.ended() == 0
    started.start()
    started.send(signal.SIGTERM)
    assert started.ended() == 0


@pytest.mark.long
@pytest.mark.parametrize("part", ["api", "worker", "smtpd", "catcher"])
def test_a_part_that_dies_stops_the_rest_and_is_named(started: Service, part: str) -> None:
    program = {"worker": "worker.py", "api": "gunicorn", "smtpd": "smtpd.py", "catcher": "mailbbgun.catcher"}[part]
    os.kill(started.pid(program), signal.SIGKILL)
    assert started.ended() == 1
    assert f"{part} ended by itself, killed by SIGKILL; stopping the rest" in started.output()
    assert started.alive() == {}


@pytest.mark.long
def test_killed_with_9_it_takes_its_parts_with_it(started: Service) -> None:
    started.send(signal.SIGKILL)
    started.ended()
    until(lambda: not started.alive(), started.alive)


@pytest.mark.long
def test_signals_that_come_double_stop_it_in_order(started: Service) -> None:
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        started.send(number)
    assert started.ended() == 0
    assert "killing" not in started.output()
    assert started.alive() == {}


@pytest.mark.long
def test_a_second_ctrl_c_kills_what_does_not_stop(started: Service) -> None:
    os.kill(started.pid("worker.py"), signal.SIGSTOP)
    started.send(signal.SIGINT)
    until(lambda: "stopping" in started.output(), started.output)

    def told_again() -> bool:
        started.send(signal.SIGINT)  # a signal within a second of the first is the same request
        return started.process is not None and started.process.poll() is not None

    until(told_again, started.output)
    assert started.ended() == 1
    assert "killing" in started.output()
    assert started.alive() == {}


def test_a_schema_that_cannot_be_made_is_told_and_nothing_else_starts(service: Service) -> None:
    service.environment["MAILBBGUN_DATABASE_URL"] = "sqlite:////proc/nowhere/mailbbgun.db"
    done = _run(service)
    assert done.returncode == os.EX_CONFIG
    assert "initdb: DATABASE_URL: there is no folder '/proc/nowhere'" in done.stdout
    assert "initdb ended by itself, exit code 78" in done.stdout
    assert "gunicorn" not in done.stdout


@pytest.mark.parametrize("setting", ["PORT", "CATCHER_PORT"])
def test_a_port_in_use_is_one_clear_line(service: Service, setting: str) -> None:
    port = service.environment[f"MAILBBGUN_{setting}"]
    with socket.create_server(("127.0.0.1", int(port))):
        done = _run(service)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"run: cannot listen on 127.0.0.1:{port}: Address already in use; MAILBBGUN_{setting} sets another port\n"
    )
    assert not service.var.exists()


@pytest.mark.long
@pytest.mark.parametrize("free", [True, False])
def test_while_mail_leaves_elsewhere_the_catcher_takes_that_of_test_keys_unless_another_has_its_port(
    service: Service, free: bool
) -> None:
    service.environment["MAILBBGUN_SMTP_URL"] = "smtp://127.0.0.1:9?security=none"
    with socket.create_server(("127.0.0.1", 0 if free else service.catcher_port)):
        service.start()
        service.send(signal.SIGTERM)
        assert service.ended() == 0
    assert "Mail leaves through 127.0.0.1:9" in service.output()
    assert ("Mail of test keys is caught" in service.output()) is free
    assert ("no catcher is started" in service.output()) is not free


@pytest.mark.long
def test_while_another_program_has_its_port_the_smtp_door_stays_shut_and_the_rest_works(service: Service) -> None:
    with socket.create_server(("127.0.0.1", service.smtp_port)):
        service.start()
        service.send(signal.SIGTERM)
        assert service.ended() == 0
    assert "no SMTP door is started: cannot listen on 127.0.0.1" in service.output()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SMTPD_HOST": "0.0.0.0"}, "SMTPD_TLS_CERT: clients of 0.0.0.0 log in with API keys"),
        ({"SMTPD_TLS_PORT": "4650"}, "SMTPD_TLS_PORT: needs a certificate"),
        ({"SMTPD_PORT": "2526", "MX_LISTEN_PORT": "2526"}, "MX_LISTEN_PORT: is the same port as SMTPD_PORT"),
    ],
)
def test_ports_that_the_smtp_door_cannot_serve_are_one_line(
    service: Service, settings: dict[str, str], told: str
) -> None:
    service.environment |= {f"MAILBBGUN_{name}": value for name, value in settings.items()}
    done = _run(service)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert done.stderr.startswith(f"run: {told}")
    service.environment["MAILBBGUN_SMTPD_PORT"] = str(service.port)
    done = _run(service)
    assert done.returncode == os.EX_CONFIG


def test_a_wrong_setting_is_one_line_and_exit_code_78(service: Service) -> None:
    service.environment["MAILBBGUN_SWEEP_SECONDS"] = "soon"
    done = _run(service)
    assert (done.returncode, done.stderr) == (os.EX_CONFIG, "run: SWEEP_SECONDS: 'soon' is not a number\n")
    del service.environment["MAILBBGUN_SWEEP_SECONDS"]
    service.environment["MAILBBGUN_CATCHER_PORT"] = str(service.port)
    done = _run(service)
    assert (done.returncode, done.stderr) == (os.EX_CONFIG, "run: CATCHER_PORT: is the API's PORT\n")


@pytest.mark.parametrize(
    ("argument", "code", "said"), [("--help", 0, "Usage: bin/run\n"), ("start", 2, "bin/run: takes no arguments")]
)
def test_it_says_how_it_is_used(argument: str, code: int, said: str) -> None:
    done = subprocess.run(
        [ROOT / "bin" / "run", argument], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, (done.stdout + done.stderr)[: len(said)]) == (code, said)


def test_an_address_that_strangers_reach_is_refused_before_anything_starts(service: Service) -> None:
    service.environment["MAILBBGUN_HOST"] = "0.0.0.0"
    done = _run(service)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert (
        done.stderr
        == "run: HOST: anybody who reaches 0.0.0.0 could send mail; listen on 127.0.0.1, or set AUTH_REQUIRED\n"
    )
    assert not service.var.exists()


@pytest.mark.long
def test_the_script_works_through_symlinks_from_anywhere_and_makes_its_environment_once(
    service: Service, tmp_path: Path
) -> None:
    clone, here = tmp_path / "a clone", tmp_path / "elsewhere"
    (clone / "bin").mkdir(parents=True)
    here.mkdir()
    for name in ("run", "setup", "install_requirements.py"):
        shutil.copy(ROOT / "bin" / name, clone / "bin")
    (clone / "requirements.txt").touch()
    (clone / "mailbbgun").mkdir()
    (clone / "mailbbgun" / "__init__.py").touch()
    (clone / "mailbbgun" / "run.py").write_text(
        "import os, sys; print(sys.prefix, os.getcwd(), os.environ['MAILBBGUN_CONFIG'])"
    )
    (tmp_path / "link").symlink_to("a clone/bin/run")
    (here / "run").symlink_to("../link")
    service.environment["MAILBBGUN_CONFIG"] = "settings.py"
    for wanted in (None, ""):  # the second time there is nothing to install
        done = subprocess.run(["./run"], cwd=here, env=service.environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{clone}/.venv {clone} {here}/settings.py\n"
        assert wanted is None or done.stderr == wanted


def _run(service: Service) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mailbbgun.run"],
        cwd=ROOT,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
