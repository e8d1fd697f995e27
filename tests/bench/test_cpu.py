"""CPU of process trees."""

import os
import subprocess
import sys

from bench import cpu

BUSY = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass"


def test_a_tree_counts_children_that_run_and_children_that_have_ended():
    shell = f"'{sys.executable}' -c '{BUSY}'; echo done; read -r _"
    with subprocess.Popen(["/bin/sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdout.readline()
        assert 0.15 < cpu.of(parent.pid) <= cpu.of(os.getpid())
        assert cpu.of_the_rest([]) - cpu.of_the_rest([parent.pid]) > 0.15
        parent.stdin.close()


def test_what_has_gone_has_used_nothing():
    assert cpu.of(2**30) == 0.0
