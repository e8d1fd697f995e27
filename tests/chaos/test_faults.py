"""Fault points: each is reached, and ``kill -9`` there loses nothing and sends nothing twice
unmarked.
"""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from mailbbgun.core.faults import POINTS, fault
from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.flow.service import ROOT, Service, until
from tests.waiting import cpu_of

SENDERS = 2
OF_THE_API = POINTS[: POINTS.index("hints.published") + 1]


def died(service: Service, point: str) -> None:
    """Wait until the worker has died of its fault."""
    until(lambda: service.processes["worker"].poll() is not None, 20, point)
    assert (service.processes["worker"].returncode, service.struck("worker", point)) == (-signal.SIGKILL, 1)


@pytest.mark.parametrize("points", [POINTS[::6], pytest.param(POINTS, marks=pytest.mark.long)], ids=["some", "all"])
def test_kill_at_each_point_once_loses_nothing(embedded_settings, points):
    with Service(
        embedded_settings, LEASE_SECONDS=4, SWEEP_SECONDS=1, RETRY_DELAYS="1,1,1,1,1,1", WORKER_CONNECTIONS=SENDERS
    ) as service:
        load = Load(service)
        for point in filter(OF_THE_API.__contains__, points):
            service.kill("api")
            service.start_api(f"{point}:1:kill")
            with load.sending([[one] for one in addresses(point, 3)]):
                until(lambda: service.struck("api", point), what=point)  # noqa: B023 - asked at once
                service.kill("api")  # a successor would die there as well
                service.start_api()
        for point in (one for one in points if one not in OF_THE_API):
            if point == "claims.release":  # deliveries that wait behind two slow ones when the worker is told to stop
                load.send_all(addresses("hesitate-0.5-released", 8))
                worker = service.start_worker(fault=f"{point}:1:kill")
                # Only leases of this worker, for those that died before it have left leases as well;
                # and only of the slow ones, for others may be sent before it is told to stop.
                its = "SELECT id FROM workers ORDER BY started_at DESC LIMIT 1"
                held = f"SELECT count(*) FROM deliveries WHERE lease_owner = ({its}) AND address LIKE 'hesitate-%'"
                until(lambda: service.sql(held)[0][0] > 4, what="a line")  # noqa: B023 - asked at once
                worker.terminate()
            else:
                if point.startswith("replay"):  # the first dies and leaves a journal; the next dies while it replays it
                    load.send_all(addresses(f"before-{point}", 3))
                    service.start_worker(fault="claim.committed:1:kill")
                    died_of_a_claim = service.struck("worker", "claim.committed")
                    until(lambda: service.processes["worker"].poll() is not None, what="its death")
                    assert service.struck("worker", "claim.committed") == died_of_a_claim + 1
                service.start_worker(fault=f"{point}:1:kill")
                load.send_all(addresses(point, 3))
            died(service, point)
        service.start_worker()
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
        figures = check(service, load.accepted)
        # However it dies, a worker leaves at most as many unknown outcomes as its senders had
        # between the journal lines of the dot and of the reply.
        deaths = sum(service.struck("worker", point) for point in points)
        assert figures.unknown <= deaths * SENDERS


@pytest.mark.long
@pytest.mark.parametrize("hold", [False, True])
def test_a_worker_that_stands_still_beyond_its_lease_between_the_dots_line_and_the_dot_does_not_send(
    real_settings, hold
):
    # Not on SQLite: if a worker is stopped while one of its threads writes, it blocks all other
    # processes, and none can settle its lease.
    settings = {"LEASE_SECONDS": 4, "SWEEP_SECONDS": 1, "RETRY_DELAYS": "1", "ON_UNKNOWN": "hold" if hold else "retry"}
    with Service(real_settings, **settings) as service:
        load = Load(service)
        identifier = load.send("ann@example.test")
        # Long enough for the other worker to start and settle the lease, on a busy machine too.
        service.start_worker("zombie", fault="dot.written:1:stop:25")
        until(lambda: service.struck("zombie", "dot.written"), what="its standstill")
        service.start_worker()
        service.ended(identifier, "ERROR" if hold else "DELIVERED", 60)
        until(lambda: "fenced" in (service.var / "zombie.out").read_text(), 60, "its awakening")
        assert check(service, load.accepted).copies == 0
        assert len(service.taken()) == (0 if hold else 1)


@pytest.mark.long
def test_a_fault_is_refused_where_it_is_not_allowed_and_where_it_names_no_point(embedded_settings):
    service = Service(embedded_settings)
    for program, wanted, allowed, why in (
        ("api.py", "claim.committed:1:kill", {}, "only for tests"),
        ("worker.py", "claim.comitted:1:kill", {"MAILBBGUN_FAULTS_ALLOWED": "1"}, "is not POINT:TIME:kill"),
        ("initdb.py", "sweep:1:stop:soon", {"MAILBBGUN_FAULTS_ALLOWED": "1"}, "is not POINT:TIME:kill"),
        ("worker.py", "sweep:1:kill", {}, "only for tests"),
        ("initdb.py", "sweep:1:kill", {}, "only for tests"),
    ):
        service.environment |= {"MAILBBGUN_FAULT": wanted} | allowed
        assert why in service.run(program, code=78)
        service.environment.pop("MAILBBGUN_FAULTS_ALLOWED", None)


def test_every_point_is_somewhere_and_no_other():
    package = [path.read_text() for path in Path(ROOT / "mailbbgun").rglob("*.py")]
    named = re.findall(r"\bfault\(\"(.+?)\"\)", "\n".join(package))
    assert set(named) == set(POINTS)
    twice = {"accept.commit", "accept.committed"}  # in the commits of messages, and of batches
    assert sorted(named) == sorted([*POINTS, *twice])


def test_a_point_without_a_fault_costs_hardly_more_than_a_call():
    def nothing(_: str) -> None:
        return

    def calls(function: Callable[[str], object]) -> None:
        for _ in range(100_000):
            function("dot.sent")

    assert median(cpu_of(lambda: calls(fault)) / cpu_of(lambda: calls(nothing)) for _ in range(9)) < 10
