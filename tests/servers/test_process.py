"""Servers leave nothing behind, whatever ends the run that started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTER = """
import time
from tests.servers import PostgreSQL
server = PostgreSQL(own=True)
server.start()
print((server._sandbox.folder / "postgresql.pid").read_text(), server._sandbox.folder, flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize(("how", "seconds"), [(signal.SIGKILL, 600), (signal.SIGINT, 600), (None, 0)], ids=["killed", "interrupted", "ended"])
def test_a_server_and_its_folder_go_with_their_starter(how: signal.Signals | None, seconds: int) -> None:
    command = [sys.executable, "-c", STARTER.format(seconds=seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        if how:
            starter.send_signal(how)
        starter.wait()
    until = time.monotonic() + 10
    while Path(folder).exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
