"""A short soak, and gauges that notice a leaking process."""

import subprocess
import sys

import pytest

from tests.chaos.gauges import bounds, of_tree
from tests.chaos.soak import soak
from tests.chaos.trend import trends
from tests.conftest import MOSTLY_EMBEDDED

MINUTES, EVERY = 1 / 3, 1.0
RATE = 20.0  # per second, which a slow machine can do as well

LEAKS = """
import os, socket, threading
server = socket.create_server(("127.0.0.1", 0))
kept = []
for number in range(10):
    kept += [os.open("/dev/null", os.O_RDONLY), socket.create_connection(server.getsockname()), b"x" * 4_000_000]
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print(flush=True)
    input()
"""


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_twenty_seconds_of_everything_leave_nothing_behind_and_nothing_grows(backend):
    soaked = soak(backend, MINUTES, EVERY, rate=RATE)
    assert soaked.well, {name: trend for name, trend in soaked.trends.items() if not trend.well}
    assert soaked.figures.accepted >= soaked.messages > 0
    assert soaked.reads > 0
    assert len(soaked.samples) > 1
    assert set(bounds(MINUTES, 1)) & set(soaked.trends) >= {
        "worker: MB",
        "worker: files",
        "api: TCP",
        "queue: hints",
        "journal: MB",
    }
    assert soaked.samples[-1]["worker: threads"] > 5
    assert soaked.samples[-1]["api: TCP"] > 0


def test_a_process_that_leaks_files_connections_threads_and_memory_is_seen():
    samples = []
    with subprocess.Popen([sys.executable, "-c", LEAKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for _ in range(10):
            process.stdout.readline()
            samples.append({f"worker: {what}": value for what, value in of_tree(process.pid).items()})
            process.stdin.write(b"\n")
            process.stdin.flush()
    found = trends([60.0 * number for number in range(10)], samples, bounds(9, 1))
    assert {name: round(trend.slope / 60) for name, trend in found.items()} == {
        "worker: processes": 0,
        "worker: threads": 1,
        "worker: files": 2,
        "worker: TCP": 1,
        "worker: MB": 4,
    }
    assert not found["worker: files"].well
    assert not found["worker: MB"].well


@pytest.mark.parametrize(("minutes", "memory"), [(1 / 3, 60), (5, 12), (30, 6), (60, 1), (24 * 60, 12)])
def test_what_memory_may_grow_by_is_a_megabyte_an_hour_in_a_long_run(minutes, memory):
    assert bounds(minutes, 2)["api: MB"].growth == memory
