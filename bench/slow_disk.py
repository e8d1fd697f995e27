"""Measures on a disk that is slower than this machine's, so that figures can be compared with those of another.

An fsync of a good disk of a data centre takes a tenth of a millisecond, that of many others one to ten. Whoever
shares one between many messages then wins by more. ``programs/slow_fsync.c`` delays each fsync of every program
that is measured; the figures name how long one took, measured in the same way.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import ROOT
from tests.servers.install import Missing
from tests.servers.process import PRELOAD


def run(milliseconds: float, arguments: Sequence[str]) -> int:
    """Run ``bin/bench`` with these arguments on the slower disk; return its exit code. Raises like :func:`library`."""
    with library(milliseconds) as path:
        command = [sys.executable, "-m", "bench", *arguments]
        with subprocess.Popen(command, env=os.environ | {PRELOAD: str(path)}) as bench:
            try:
                return bench.wait()
            except BaseException:  # it must stop its servers before the library is gone
                bench.terminate()
                raise


@contextmanager
def library(milliseconds: float) -> Iterator[Path]:
    """Make a library that delays each fsync of a program that it is loaded into.

    Raises :class:`tests.servers.install.Missing` if there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("--fsync-ms needs a C compiler: sudo apt-get install -y gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="mailbbgun-slow-disk-") as folder:
        Path(folder).chmod(0o755)  # servers run as other users
        path, source = Path(folder) / "slow_fsync.so", ROOT / "bench" / "programs" / "slow_fsync.c"
        delay = f"-DDELAY={round(milliseconds * 1e6)}L"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", delay, "-o", path, source, "-ldl"], check=True)
        yield path
