"""The heaps that threads share, in a process of its own and in those of the service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.service import ROOT, Service, until

# malloc_info tells of each heap: <heap nr="0"> and so on.
HEAPS = """
import ctypes, os, sys, threading
from mailbbgun.base.memory import few_arenas
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


def test_api_and_worker_have_two_at_the_most(embedded_settings):
    with Service(embedded_settings) as service:
        service.start_worker()
        identifiers = [service.post(to=f"u{number}@example.test")["id"] for number in range(20)]
        until(lambda: service.count("DELIVERED") == len(identifiers), what="delivery")
        for name in ("api", "worker"):
            # A heap beside the first is a mapping of 64 MB at an address that is a multiple of that, most of which cannot be used yet.
            assert _further_heaps(service.processes[name].pid) <= 1


def _further_heaps(pid: int) -> int:
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return max(sum(1 for line in Path(f"/proc/{one}/maps").read_text().splitlines() if _is_heap(line)) for one in pids)


def _is_heap(line: str) -> bool:
    begin = int(line.partition("-")[0], 16)
    return begin % (64 << 20) == 0 and " rw-p " in line and len(line.split()) == 5
