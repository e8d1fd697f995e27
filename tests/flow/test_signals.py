"""A worker, the catcher and the API that are told to end, by whatever signal, lose and repeat nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.service import ROOT, Service, until
from tests.servers.process import free_port
from tests.waiting import PATIENCE


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def held(service: Service) -> int:
    """Return how many deliveries are in some worker's hands."""
    return int(service.sql("SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL")[0][0])


@pytest.mark.parametrize(("number", "times"), [(signal.SIGHUP, 3), (signal.SIGQUIT, 1)])
def test_a_worker_that_is_hung_up_ends_what_it_sends_gives_back_the_rest_and_exits_0(embedded_settings, number, times):
    with Service(embedded_settings, WORKER_CONNECTIONS=1) as service:
        worker = service.start_worker()
        slow = service.post(to="hesitate-2-ann@example.test")["id"]
        until(lambda: held(service) == 1, what="the claim")
        others = [service.post(to=f"ben{n}@example.test")["id"] for n in range(5)]
        until(lambda: held(service) > 1, what="claims that wait")
        for _ in range(times):
            worker.send_signal(number)
        assert worker.wait(PATIENCE) == 0
        assert service.message(slow)["status"] == "DELIVERED"
        assert held(service) == 0
        service.start_worker("again")
        for one in others:
            service.ended(one, "DELIVERED")
        assert set(service.copies().values()) == {1}


def test_a_terminal_that_closes_hangs_up_all_of_several_workers_and_each_ends_what_it_sends(embedded_settings):
    with Service(embedded_settings, WORKER_PROCESSES=2) as service:
        leader = service.start_worker()
        slow = service.post(to="hesitate-2-ann@example.test")["id"]
        until(lambda: held(service) == 1, what="the claim")
        for pid in (leader.pid, *children(leader.pid), leader.pid):
            os.kill(pid, signal.SIGHUP)
        assert leader.wait(PATIENCE) == 0
        assert service.message(slow)["status"] == "DELIVERED"
        assert held(service) == 0


def command_line(pid: int) -> str:
    """Return what a process was started as; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_a_worker_that_is_killed_takes_the_process_that_sends_alone_along(embedded_settings):
    with Service(embedded_settings, WORKER_PROCESSES=1, SHUTDOWN_GRACE=1) as service:
        service.post(to="hesitate-600-ann@example.test")
        service.sql("UPDATE deliveries SET crashes = 2")
        worker = service.start_worker()
        until(lambda: held(service) == 1, what="the claim")
        (child,) = (pid for pid in children(worker.pid) if "--isolated" in command_line(pid))
        worker.kill()
        worker.wait(PATIENCE)
        until(lambda: not command_line(child), what="the end of the child")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_the_catcher_that_is_hung_up_exits_0(embedded_settings, number):
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


def test_an_api_process_that_is_hung_up_is_replaced_and_the_service_goes_on(embedded_settings):
    with Service(embedded_settings) as service:
        (first,) = children(service.processes["api"].pid)
        os.kill(first, signal.SIGHUP)
        until(lambda: children(service.processes["api"].pid) not in ([first], []), what="another process")
        until(service.answers, what="the API")
        assert service.post(to="ann@example.test")["status"] == "PENDING"
        assert "SIGHUP" not in (service.var / "api.out").read_text()  # as gunicorn says of one that was killed by it
