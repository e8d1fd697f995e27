"""How many heaps the threads of a process share: in a test process, and in API and worker."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.flow.service import ROOT, Service, until

HEAP = 64 << 20

# A program that prints each heap of its process: malloc_info writes <heap nr="0"> and so on.
HEAPS = """
import ctypes, os, sys, threading
from mailbbgun.core.process import few_arenas
if sys.argv[1] == "few":
    few_arenas()
C = ctypes.CDLL(None)
C.malloc.restype = ctypes.c_void_p
for _ in range(16):
    thread = threading.Thread(target=lambda: (C.malloc(1000), threading.Event().wait()), daemon=True)
    thread.start()
file = C.fdopen
file.restype = ctypes.c_void_p
stream = file(1, b"w")
C.malloc_info(0, ctypes.c_void_p(stream))
C.fflush(ctypes.c_void_p(stream))
os._exit(0)
"""


@pytest.mark.parametrize(("how", "least", "most"), [("few", 1, 2), ("as-it-comes", 5, 17)])
def test_threads_share_two_heaps(how, least, most):
    done = subprocess.run([sys.executable, "-c", HEAPS, how], cwd=ROOT, capture_output=True, text=True, check=True)
    assert least <= len(re.findall("<heap nr=", done.stdout)) <= most


@pytest.mark.long
def test_api_and_worker_have_two_at_the_most(embedded_settings):
    with Service(embedded_settings) as service:
        service.start_worker()
        identifiers = [service.post(to=f"u{number}@example.test")["id"] for number in range(20)]
        until(lambda: service.count("DELIVERED") == len(identifiers), what="delivery")
        for name in ("api", "worker"):
            assert _further_heaps(service.processes[name].pid) <= 1


def _further_heaps(pid: int) -> int:
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return max(_heaps(Path(f"/proc/{one}/maps").read_text().splitlines()) for one in pids)


def _heaps(maps: list[str]) -> int:
    """Return how many heaps a process has beside the first, from the lines of its ``maps`` file.

    A heap is 64 MB that begin at a multiple of 64 MB. Its front is in use, and the rest is still
    protected.
    """
    count = 0
    for front, rest in pairwise(maps):
        (begin, middle), (follows, end) = (_range(line) for line in (front, rest))
        whole = begin % HEAP == 0 and middle == follows and end == begin + HEAP
        count += whole and " rw-p " in front and " ---p " in rest
    return count


def _range(line: str) -> tuple[int, int]:
    begin, end = line.split()[0].split("-")
    return int(begin, 16), int(end, 16)
