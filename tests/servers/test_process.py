"""Servers leave nothing behind, however the run that started them ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STARTER = """
import time
from tests.servers import PostgreSQL
server = PostgreSQL(own=True)
server.start()
print((server._sandbox.folder / "postgresql.pid").read_text(), server._sandbox.folder, flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize(
    ("how", "seconds"), [(signal.SIGKILL, 600), (signal.SIGINT, 600), (None, 0)], ids=["killed", "interrupted", "ended"]
)
def test_a_server_and_its_folder_go_with_their_starter(how: signal.Signals | None, seconds: int) -> None:
    command = [sys.executable, "-c", STARTER.format(seconds=seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        if how:
            starter.send_signal(how)
        starter.wait()
    wait_until(
        lambda: not (Path(folder).exists() or Path(f"/proc/{pid}").exists()), "the end of the server and its folder"
    )
