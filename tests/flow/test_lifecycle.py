"""Programs that start without a database, get signals at the start, or reload wrong settings."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from sqlalchemy.engine import make_url

from mailbbgun.settings.load import load
from mailbbgun.smtp_accounts.connection_test import most_at_once
from tests.chaos.proxy import Proxy
from tests.flow.service import ROOT, Service, until
from tests.flow.test_signals import children
from tests.servers.process import free_port
from tests.smtp.behaviours import silent
from tests.smtp.peers import Peer
from tests.waiting import PATIENCE

MESSAGE = {"to": "ann@example.test", "subject": "hello", "text": "hello"}
PROGRAMS = {
    "api": ["api.py"],
    "gunicorn": ["-m", "gunicorn", "api:app"],
    "worker": ["worker.py"],
    "member": ["-m", "mailbbgun.worker"],
    "catcher": ["-m", "mailbbgun.catcher"],
    "smtpd": ["smtpd.py"],
    "run": ["-m", "mailbbgun.run"],
}


def told(service: Service, name: str, event: str) -> list[str]:
    """Return the log lines of this event that have been written so far."""
    return [line for line in (service.var / f"{name}.out").read_text().splitlines() if f" {event} " in line]


# -- without a database


@contextmanager
def without_database(service: Service, name: str) -> Iterator[Service]:
    """Start a program of a service whose database is away. The test calls ``install``."""
    with ExitStack() as stack:
        stack.push(service.__exit__)
        if name == "api":
            service.start_api()
        else:
            service.start_worker()
        yield service


@pytest.fixture
def away(tmp_path, postgresql) -> Iterator[tuple[Service, int, int]]:
    """A service that is not started, with a database without tables.

    Also yields the port where the service looks for the database, and the port of the database.
    """
    database = postgresql.create_database()
    url, port = make_url(postgresql.url(database)), free_port()
    through = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    settings = {
        "VAR": str(tmp_path / "var"),
        "DATABASE_URL": through,
        "ALLOW_WEAK_DURABILITY": "1",
        "HOSTNAME": "mail.example.com",
    }
    yield Service(load({f"MAILBBGUN_{name}": value for name, value in settings.items()})), port, url.port
    postgresql.drop_database(database)


def refusal(service: Service) -> str:
    """Return the message of requests that need the database; it is the same for all."""

    def messages() -> set[str]:
        answers = [
            service.http.post(f"{service.url}/messages", json=MESSAGE, timeout=PATIENCE),
            service.http.get(f"{service.url}/messages", timeout=PATIENCE),
            service.http.get(f"{service.url}/smtp-accounts", timeout=PATIENCE),
        ]
        told_ = {(one.status_code, one.json()["error"]["code"], one.headers["Retry-After"]) for one in answers}
        assert told_ == {(503, "unavailable", "5")}
        return {one.json()["error"]["message"] for one in answers}

    # What is wrong may change between two of the requests.
    (said,) = until(lambda: one if len(one := messages()) == 1 else None, what="one message for all")
    return said


def test_the_api_listens_without_its_database_and_works_once_that_is_there_and_set_up(away):
    service, port, upstream = away
    with without_database(service, "api"):
        said = refusal(service)
        assert "the database did not answer when the API started" in said or "the database does not answer" in said
        assert service.get("/health") == {"status": "ok"}
        assert service.get("/")["service"] == "Mail BB Gun"
        ready = service.http.get(f"{service.url}/ready", timeout=PATIENCE)
        assert (ready.status_code, ready.headers["Retry-After"]) == (503, "5")
        assert ready.json()["parts"]["database"].startswith("the database d")
        assert told(service, "api", "database_unavailable")

        proxy = Proxy(upstream)
        proxy.port = port
        with proxy:
            missing = "the database's schema is missing, this version needs "
            until(lambda: missing in refusal(service), what="the message about the schema")
            parts = service.http.get(f"{service.url}/ready", timeout=PATIENCE).json()["parts"]
            assert all(parts[name].startswith(missing) for name in ("database", "worker"))
            (line,) = told(service, "api", "database_not_usable")
            assert missing in line
            assert "run python initdb.py" in line

            service.install()
            usable = f"{service.url}/messages"
            until(lambda: service.http.get(usable, timeout=PATIENCE).ok, what="an API that accepts the database")
            assert service.post(**MESSAGE)["status"] == "PENDING"
            assert len(told(service, "api", "database_not_usable")) == 1
            assert "Traceback" not in (service.var / "api.out").read_text()
            assert service.stop("api") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_worker_that_waits_for_its_database_exits_0_on_a_signal(away, number):
    service, _, _ = away
    with without_database(service, "worker"):
        until(lambda: told(service, "worker", "database_unavailable"), what="the log line about the database")
        worker = service.processes["worker"]
        worker.send_signal(number)
        assert worker.wait(PATIENCE) == 0
        assert "Traceback" not in (service.var / "worker.out").read_text()


# -- stopped while it starts


@contextmanager
def reading_settings(service: Service, name: str) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Start a program whose config.py is a pipe; yield when the program reads it."""
    pipe = service.var / "config.py"
    os.mkfifo(pipe)
    environment = service.environment | {"MAILBBGUN_CONFIG": str(pipe)}
    argv = [sys.executable, *PROGRAMS[name]]
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        with pipe.open("w"):  # returns once the program has opened it for reading
            yield process, pipe
        process.kill()


@pytest.mark.parametrize(
    "name",
    [one if one in ("api", "worker", "smtpd") else pytest.param(one, marks=pytest.mark.long) for one in PROGRAMS],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_program_that_gets_a_signal_while_it_starts_exits_0(embedded_settings, name, number):
    with reading_settings(Service(embedded_settings), name) as (process, _):
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stdout
        assert process.stdout.read() == ""


def test_a_signal_that_comes_while_the_api_becomes_gunicorn_is_not_lost(embedded_settings):
    service = Service(embedded_settings)
    service.install()
    with reading_settings(service, "api") as (process, pipe):
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGHUP)  # asks to reload settings; the process must not end
        process.send_signal(signal.SIGCONT)
        with pipe.open("w"):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stdout
        assert "Traceback" not in process.stdout.read()


# -- wrong settings on reload


WRONG = {
    "SMTP_URl = 'catcher:'": "SMTP_URl: unknown setting; did you mean SMTP_URL?",
    "API_THREADS = 'many'": "API_THREADS: 'many' is not a number",
    "API_THREADS = ": "SyntaxError",
    "raise SystemExit": "SystemExit",
    "DEFAULT_FROM = 'nobody'": "DEFAULT_FROM: 'nobody'",
    "SMTP_CA_FILE = '/nowhere/ca.pem'": "SMTP_CA_FILE: '/nowhere/ca.pem'",
    "HOST = '0.0.0.0'": "HOST: anybody who reaches 0.0.0.0 could send mail",
    "DATABASE_URL = 'sqlite:////nowhere/mailbbgun.db'": "there is no database /nowhere/mailbbgun.db",
    "SQLITE_SYNCHRONOUS = 'OFF'": "a power cut would lose accepted mail",
    "ENCRYPTION_KEYS = 'short'": "ENCRYPTION_KEYS",
}


def test_a_running_api_refuses_to_reload_wrong_settings_and_keeps_the_old_ones(embedded_settings):
    service = Service(embedded_settings)
    file = service.var / "config.py"
    names = [name for name in ("PORT", "DATABASE_URL", "DEFAULT_FROM") if f"MAILBBGUN_{name}" in service.environment]
    given = {name: service.environment.pop(f"MAILBBGUN_{name}") for name in names}
    right = "".join(f"{name} = {int(value) if name == 'PORT' else value!r}\n" for name, value in given.items())
    file.write_text(right)
    service.environment["MAILBBGUN_CONFIG"] = str(file)
    with service, socket.create_server(("127.0.0.1", 0)) as other:
        api = service.processes["api"]
        refusals = WRONG | {f"PORT = {other.getsockname()[1]}": "PORT: cannot listen on 127.0.0.1:"}
        for number, (line, why) in enumerate(refusals.items(), 1):
            file.write_text(f"{right}{line}\n")
            before = children(api.pid)
            api.send_signal(signal.SIGHUP)
            until(lambda: len(told(service, "api", "settings_not_loaded")) == number, what=why)  # noqa: B023 - asked at once
            assert why in told(service, "api", "settings_not_loaded")[-1]
            assert children(api.pid) == before
            assert service.get("/health") == {"status": "ok"}

        # A process that dies meanwhile is replaced; the new one has the settings of the others.
        (process,) = children(api.pid)
        os.kill(process, signal.SIGKILL)
        until(lambda: children(api.pid) not in ([process], []), what="another process")
        until(service.answers, what="the API")
        assert service.post(**MESSAGE)["status"] == "PENDING"

        file.write_text(f"{right}MAX_BODY_SIZE = 2000\n")
        before = children(api.pid)
        api.send_signal(signal.SIGHUP)
        large = MESSAGE | {"text": "x" * 3000}
        until(lambda: _status(service, large) == 413, what="the new limit")
        assert service.stop("api") == 0
        assert "Traceback" not in (service.var / "api.out").read_text()


def _status(service: Service, message: dict[str, str]) -> int:
    try:
        return requests.post(f"{service.url}/messages", json=message, timeout=PATIENCE).status_code
    except requests.ConnectionError:  # the process was about to end
        return 0


@pytest.mark.long
def test_a_worker_process_that_dies_while_settings_are_wrong_is_replaced_once_they_are_right(embedded_settings):
    service = Service(embedded_settings, WORKER_PROCESSES=2)
    file = service.var / "config.py"
    file.write_text("")
    service.environment["MAILBBGUN_CONFIG"] = str(file)
    with service:
        leader = service.start_worker()
        until(lambda: len(told(service, "worker", "worker_started")) == 2, what="both members")
        file.write_text("SMTP_URl = 'catcher:'\n")
        os.kill(children(leader.pid)[0], signal.SIGKILL)
        until(
            lambda: "SMTP_URl: unknown setting" in (service.var / "worker.out").read_text(),
            what="the log line about the setting",
        )
        until(
            lambda: any("exit_code=78" in line for line in told(service, "worker", "worker_died")),
            what="the end of the member that read it",
        )
        assert leader.poll() is None
        service.ended(service.post(**MESSAGE)["id"], "DELIVERED")
        file.write_text("")
        until(lambda: len(told(service, "worker", "worker_started")) == 3, what="its successor")
        assert service.stop("worker") == 0


# -- few threads


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (8, 4), (256, 4)])
def test_connection_tests_leave_half_of_the_threads_to_other_requests(threads, most):
    assert most_at_once(threads) == most


def test_with_two_threads_one_connection_test_runs_at_once_and_with_one_thread_none(embedded_settings):
    with Peer(at={"banner": silent}) as peer, ThreadPoolExecutor(3) as threads:
        body = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE"}

        def attempt(service: Service) -> requests.Response:
            return requests.post(f"{service.url}/smtp-accounts/test", json=body, timeout=PATIENCE)

        with Service(embedded_settings, API_THREADS=2, ALLOW_PRIVATE_HOSTS="127.0.0.1") as service:
            running = [threads.submit(attempt, service) for _ in range(3)]
            until(
                lambda: sum(one.done() for one in running) + peer.connections == 3,
                what="a refusal or a connection for each",
            )
            assert peer.connections == 1
            assert {one.result().status_code for one in running if one.done()} == {503}
            assert service.get("/smtp-accounts")["count"] == 0  # while a test is running
            peer.__exit__(None, None, None)
            service.kill("api")
            service.environment["MAILBBGUN_API_THREADS"] = "1"
            service.start_api()
            answer = attempt(service)
            assert answer.status_code == 503
            assert answer.json()["error"]["message"].startswith("With API_THREADS = 1 no account can be tried")
