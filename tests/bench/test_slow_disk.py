"""``bin/bench --fsync-ms``: a disk that is slower than this machine's."""

import os
import shutil
import subprocess
import sys

import pytest

from bench import slow_disk
from tests.servers.install import Missing
from tests.servers.process import PRELOAD

MILLISECONDS = 20.0
SYNCS = """
import os, tempfile, time
with tempfile.TemporaryFile() as file:
    for sync in (os.fsync, os.fdatasync):
        began = time.monotonic()
        sync(file.fileno())
        print((time.monotonic() - began) * 1000)
"""


def test_each_fsync_takes_so_much_longer() -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        with pytest.raises(Missing, match="needs a C compiler"), slow_disk.library(MILLISECONDS):
            pass
        return
    with slow_disk.library(MILLISECONDS) as library:
        done = subprocess.run(
            [sys.executable, "-c", SYNCS],
            env=os.environ | {PRELOAD: str(library)},
            capture_output=True,
            text=True,
            check=True,
        )
    taken = [float(line) for line in done.stdout.split()]
    assert len(taken) == 2
    assert min(taken) >= MILLISECONDS


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Missing, match="apt-get install -y gcc"), slow_disk.library(1.0):
        pass
