"""Machines whose clocks are an hour apart: only the database's clock counts.

Not with SQLite, where there is only one machine.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise

import pytest

from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.flow.service import Service, until
from tests.servers import install
from tests.waiting import LOOK, PATIENCE, growing, pause

LEASE = 4
DELAYS = (1, 2)  # seconds
EARLIEST = 0.9  # fraction of a delay, because of jitter
# libfaketime 0.9.10 breaks time.sleep, which waits until a monotonic time.
SLEEP = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds)[0]"


@contextmanager
def another_clock(service: Service, seconds: int) -> Iterator[None]:
    """Let processes started in the block run on another machine: with another clock and another
    VAR.
    """
    right, only = service.environment, service.only
    elsewhere = service.var / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(SLEEP)
    # All machines have the same key.
    (elsewhere / "encryption.key").write_bytes((service.var / "encryption.key").read_bytes())
    faked = {"LD_PRELOAD": str(install.faketime()), "FAKETIME": f"{seconds:+}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    service.environment = right | faked | {"PYTHONPATH": str(elsewhere)}
    service.only = {"api": {}, "worker": {"VAR": str(elsewhere)}}
    yield
    service.environment, service.only = right, only


def start_api(service: Service) -> None:
    """Start the API; start it again if it hangs.

    libfaketime 0.9.10 now and then stops a process for ever when it forks.
    """
    for seconds in growing(30.0):
        service.spawn_api()
        for _ in range(int(seconds / LOOK)):
            if service.answers():
                return
            pause(LOOK)
        service.kill("api")
    raise AssertionError("no API answered")


def clock_of(service: Service, name: str) -> float:
    """Return how many seconds the clock of a process is off, by its last log line."""
    last = (service.var / f"{name}.out").read_text().splitlines()[-1].split()[0]
    return datetime.fromisoformat(last).timestamp() - time.time()


def waits(service: Service) -> dict[str, list[float]]:
    """Return how long each address waited after each refusal, in seconds by the sink's clock."""
    times: dict[str, list[float]] = {}
    for line in (service.var / "sink.out").read_text().splitlines():
        if line.startswith("refused "):
            _, address, at = line.split()
            times.setdefault(address, []).append(float(at))
    for message in service.taken():
        if message["to"][0] in times:
            times[message["to"][0]].append(message["at"])
    return {address: [after - before for before, after in pairwise(tried)] for address, tried in times.items()}


def assert_clocks_were_wrong(service: Service, off: float) -> None:
    """Check that API and one worker ran by a wrong clock, and that both workers had mail to send."""
    for name, wrong in (("off", off), ("api", off), ("right", 0)):
        assert abs(clock_of(service, name) - wrong) < PATIENCE, name
    for name in ("off", "right"):
        log = (service.var / f"{name}.out").read_text()
        print(f"{name}: {log.count('info delivered')} delivered, {log.count('info deferred')} deferred")
        assert min(log.count("info delivered"), log.count("info deferred")) > 0


def assert_waits_were_right(service: Service, count: int) -> None:
    """Check that each refused address waited for its delays, neither less nor endlessly more."""
    shortest = [min(one) for one in zip(*(waits for waits in waits(service).values() if len(waits) == 2), strict=True)]
    retries, soonest = sum(map(len, waits(service).values())), ", ".join(f"{one:.2f}" for one in shortest)
    print(f"{retries} retries, the soonest after {soonest} s")
    assert len(waits(service)) == count
    for waited in waits(service).values():
        assert all(EARLIEST * delay <= one < delay + PATIENCE for delay, one in zip(DELAYS, waited, strict=False)), (
            waited
        )


@pytest.mark.long
@pytest.mark.parametrize("off", [3600, -3600])
def test_a_worker_and_an_api_whose_clock_is_wrong_send_nothing_early_nothing_late_and_nothing_twice(real_settings, off):
    with Service(
        real_settings, LEASE_SECONDS=LEASE, SWEEP_SECONDS=1, RETRY_DELAYS=",".join(map(str, DELAYS))
    ) as service:
        mail = [
            *addresses("u", 100),
            *addresses("later-1-", 20),
            *addresses("later-2-", 20),
            *addresses(f"hesitate-{LEASE + 2}-", 4),
        ]
        random.Random(20261121).shuffle(mail)
        load = Load(service)
        service.kill("api")
        with another_clock(service, off):
            start_api(service)
            load.send_all(addresses("waiting", 40))
            assert service.run("bin/requeue-pending") == "requeued 0\n"
            service.start_worker("off")
        service.start_worker("right")
        until(
            lambda: all("worker_started" in (service.var / f"{name}.out").read_text() for name in ("off", "right")),
            what="both workers",
        )
        load.send_all(mail)
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")

        assert_clocks_were_wrong(service, off)
        assert_waits_were_right(service, 40)
        figures = check(service, load.accepted)
        assert (figures.unknown, figures.copies, service.events("worker_lost")) == (0, 0, 0)
