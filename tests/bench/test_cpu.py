"""CPU of process trees."""

import os
import subprocess
import sys

from bench.processes import cpu

BUSY = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass"


def test_a_tree_counts_children_that_run_and_children_that_have_ended():
    shell = f"'{sys.executable}' -c '{BUSY}'; echo done; read -r _"
    with subprocess.Popen(["/bin/sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        meter = cpu.Meter({"both": [parent.pid, os.getpid()], "nobody": []})
        parent.stdout.readline()
        assert 0.15 < cpu.of(parent.pid) <= cpu.of(os.getpid())
        assert meter.read()["both"] > 0.15
        assert meter.read()["nobody"] == 0.0
        parent.stdin.close()


def test_a_process_that_has_ended_has_used_nothing():
    assert cpu.of(2**30) == cpu.memory_of(2**30) == 0.0


def test_memory_is_that_of_the_whole_tree():
    hold = "import time; block = b'x' * 30_000_000; print(flush=True); time.sleep(60)"
    before = cpu.memory_of(os.getpid())
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert cpu.memory_of(os.getpid()) - before > 30_000_000
        child.kill()
