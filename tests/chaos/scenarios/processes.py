"""Damage to our own processes: killed, stopped for a while, replaced."""

import os
import signal
import time

from mailbbgun.core.faults import POINTS
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service


@scenario(EMBEDDED, REAL)
def kill(round_: Round) -> None:
    """kill -9 of workers and the API at random moments."""
    with round_.under_load() as service:
        for _ in range(round_.dice.randint(1, 5)):
            victim = round_.dice.choice(["worker", "api"])
            round_.pause()
            service.kill(victim)
            service.start_worker() if victim == "worker" else service.start_api()


@scenario(EMBEDDED, REAL)
def fault(round_: Round) -> None:
    """kill -9, or a standstill of some seconds, at a fault point."""
    point, time_ = round_.dice.choice(POINTS), round_.dice.randint(1, 6)
    action = round_.dice.choice(["kill", "kill", f"stop:{round_.dice.uniform(0.2, 9):.1f}"])
    by_api = point.startswith("accept.") or (point.startswith("hints.") and round_.dice.random() < 0.5)
    armed = f"{point}:{time_}:{action}"
    round_.say(armed, "api" if by_api else "worker")
    with round_.under_load(seconds=6) as service:
        if by_api:
            service.kill("api")
            service.start_api(armed)
            _until_struck(round_, service, "api", point)
            if action == "kill":  # a successor would hit the same fault point
                service.kill("api")
                service.start_api()
            return
        service.kill("worker")
        worker = service.start_worker(fault=armed)
        if point == "claims.release":
            round_.pause(1.5, 3)
            worker.terminate()
        _until_struck(round_, service, "worker", point)
        if action != "kill":
            service.start_worker("second")  # it finds the first one's leases expired
            time.sleep(float(action.partition(":")[2]))


def _until_struck(round_: Round, service: Service, name: str, point: str, seconds: float = 8.0) -> None:
    """Wait until a fault point is hit. By chance it may not be; then the round says so."""
    end = time.monotonic() + seconds
    while not service.struck(name, point) and time.monotonic() < end and service.processes[name].poll() is None:
        time.sleep(0.05)
    if not service.struck(name, point):
        round_.say("spared")


@scenario(EMBEDDED, REAL)
def standstill(round_: Round) -> None:
    """Two workers, one of them stopped for longer than its lease, again and again."""
    with round_.under_load(seconds=8) as service:
        service.start_worker("second")
        for _ in range(round_.dice.randint(1, 2)):
            round_.pause()
            victim = service.processes[round_.dice.choice(["worker", "second"])]
            victim.send_signal(signal.SIGSTOP)
            round_.pause(3, 9)
            victim.send_signal(signal.SIGCONT)


@scenario(REAL)
def crew_member(round_: Round) -> None:
    """kill -9 of members of a crew, and of its leader."""
    with round_.under_load(WORKER_PROCESSES=2, seconds=6) as service:
        for _ in range(round_.dice.randint(1, 3)):
            round_.pause(0.8, 2)
            found = members(service.processes["worker"].pid)
            if found and round_.dice.random() < 0.8:
                os.kill(round_.dice.choice(found), signal.SIGKILL)
            else:
                service.kill("worker")
                service.start_worker()


def members(leader: int) -> list[int]:
    """Return the processes that a supervisor started."""
    try:
        threads = os.listdir(f"/proc/{leader}/task")
        found = []
        for thread in threads:
            with open(f"/proc/{leader}/task/{thread}/children") as children:
                found += [int(pid) for pid in children.read().split()]
    except OSError:  # it ended meanwhile
        return []
    return found


@scenario(EMBEDDED, REAL)
def replacement(round_: Round) -> None:
    """Workers told to stop and replaced, as by an update: nothing unknown comes of it but what the sink cuts."""
    with round_.under_load(seconds=6) as service:
        for number in range(round_.dice.randint(2, 4)):
            round_.pause(0.5, 1.5)
            service.start_worker(f"next-{number}")
            assert service.stop("worker" if number == 0 else f"next-{number - 1}") in (0, -signal.SIGTERM)
