"""Whatever signal ends a worker, the catcher or the API, no mail is lost or repeated."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MOSTLY_REAL
from tests.flow.service import ROOT, Service, until
from tests.servers.process import free_port
from tests.waiting import PATIENCE


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def held(service: Service) -> int:
    """Return how many deliveries are claimed by a worker."""
    return int(service.sql("SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL")[0][0])


def sending(service: Service) -> bool:
    """Return whether the sink has been asked to take a mail: a claim alone could still be given back."""
    return "hesitates" in (service.var / "sink.out").read_text()


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGHUP, 3), pytest.param(signal.SIGQUIT, 1, marks=pytest.mark.long)]
)
def test_a_worker_finishes_its_transaction_on_sighup_or_sigquit_returns_the_rest_and_exits_0(
    embedded_settings, number, times
):
    with Service(embedded_settings, WORKER_CONNECTIONS=1) as service:
        worker = service.start_worker()
        slow = service.post(to="hesitate-2-ann@example.test")["id"]
        until(lambda: sending(service), what="the transaction")
        others = [service.post(to=f"ben{n}@example.test")["id"] for n in range(5)]
        until(lambda: held(service) > 1, what="more claims")
        for _ in range(times):
            worker.send_signal(number)
        assert worker.wait(PATIENCE) == 0
        assert service.message(slow)["status"] == "DELIVERED"
        assert held(service) == 0
        service.start_worker("again")
        for one in others:
            service.ended(one, "DELIVERED")
        assert set(service.copies().values()) == {1}


@pytest.mark.long
def test_several_workers_each_finish_their_transaction_when_the_terminal_closes(embedded_settings):
    with Service(embedded_settings, WORKER_PROCESSES=2) as service:
        leader = service.start_worker()
        slow = service.post(to="hesitate-2-ann@example.test")["id"]
        until(lambda: sending(service), what="the transaction")
        for pid in (leader.pid, *children(leader.pid), leader.pid):
            with suppress(ProcessLookupError):  # a member that was sending nothing has ended by now
                os.kill(pid, signal.SIGHUP)
        assert leader.wait(PATIENCE) == 0
        assert service.message(slow)["status"] == "DELIVERED"
        assert held(service) == 0


def command_line(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.long
def test_an_isolated_process_ends_with_its_killed_worker(embedded_settings):
    with Service(embedded_settings, WORKER_PROCESSES=1, SHUTDOWN_GRACE=1) as service:
        service.post(to="hesitate-600-ann@example.test")
        service.sql("UPDATE deliveries SET crashes = 2")
        worker = service.start_worker()
        until(lambda: held(service) == 1, what="the claim")
        (child,) = (pid for pid in children(worker.pid) if "--isolated" in command_line(pid))
        worker.kill()
        worker.wait(PATIENCE)
        until(lambda: not command_line(child), what="the end of the child process")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_the_catcher_exits_0_on_sighup_and_sigquit(embedded_settings, number):
    service = Service(embedded_settings, CATCHER_PORT=free_port())
    argv = [sys.executable, "-m", "mailbbgun.catcher"]
    with subprocess.Popen(argv, cwd=ROOT, env=service.environment, stderr=subprocess.PIPE, text=True) as catcher:
        assert catcher.stderr
        assert " catching " in catcher.stderr.readline()
        catcher.send_signal(number)
        assert catcher.wait(20) == 0
        assert catcher.stderr.read() == ""


@pytest.mark.parametrize("program", [["-m", "mailbbgun.catcher"], ["worker.py"]], ids=["catcher", "worker"])
def test_a_program_goes_on_at_the_signals_by_which_logs_are_rotated(embedded_settings, program):
    service = Service(embedded_settings, CATCHER_PORT=free_port())
    service.install()
    argv = [sys.executable, *program]
    with subprocess.Popen(argv, cwd=ROOT, env=service.environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr
        assert any(" catching " in line or "worker_started" in line for line in running.stderr)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            running.send_signal(number)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0


def test_an_api_process_that_gets_sighup_is_replaced(embedded_settings):
    with Service(embedded_settings) as service:
        (first,) = children(service.processes["api"].pid)
        os.kill(first, signal.SIGHUP)
        until(lambda: children(service.processes["api"].pid) not in ([first], []), what="another process")
        until(service.answers, what="the API")
        assert service.post(to="ann@example.test")["status"] == "PENDING"
        assert (
            "SIGHUP" not in (service.var / "api.out").read_text()
        )  # gunicorn names the signal if it killed the process


@pytest.mark.long
@MOSTLY_REAL
def test_a_claim_that_a_worker_does_not_know_of_is_given_back_when_it_stops_and_is_no_unknown_outcome(backend):
    with Service(backend) as service:
        worker = service.start_worker()
        until(lambda: service.sql("SELECT count(*) FROM workers")[0][0] == 1, what="the register")
        later = "2100-01-01 00:00:00+00" if backend.DATABASE_URL.startswith("postgresql") else "2100-01-01 00:00:00.000"
        sent = service.post(to="ann@example.test")["id"]
        service.ended(sent, "DELIVERED")
        # As if the database had died right after the commit of a claim, before it could answer.
        service.sql(
            "UPDATE deliveries SET status = 'PENDING', finished_at = NULL, attempt = attempt + 1, "
            f"lease_owner = (SELECT id FROM workers), lease_until = '{later}'"
        )
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
        assert service.sql("SELECT lease_owner FROM deliveries") == [(None,)]
        assert service.kinds(sent) == ["accepted", "delivered", "worker_lost"]
        assert "claims_recovered" in (service.var / "worker.out").read_text()
        assert not list((service.var / "journal").glob("*.journal"))
