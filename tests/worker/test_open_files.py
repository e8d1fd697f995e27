"""A worker raises its limit of open files for its connections, or says why it cannot."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.worker.main import check_open_files

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
try:
    check_open_files(int(sys.argv[3]))
except ConfigurationError as error:
    print(error)
else:
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "said"),
    [
        (256, 4096, 20, "846"),
        (4096, 4096, 20, "4096"),
        (256, 4096, 2000, "WORKER_CONNECTIONS: 2000 connections in one process need 8406 open files"),
    ],
)
def test_the_limit_is_raised_or_the_setting_that_needs_more_is_named(
    soft: int, hard: int, connections: int, said: str
) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.startswith(said)
