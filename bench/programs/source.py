"""Sends with Postfix's ``smtp-source``, over connections that stay open.

Run as ``python -m bench.programs.source PORT COUNT SESSIONS [SHAPE]``. ``smtp-source`` sends copies
of one message. So of the mix, all messages of one shape come first, then all of the next. Prints
one line of JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time

from bench.processes import postfix
from bench.programs.loop import HOSTNAME, message
from bench.programs.payload import DOMAIN, SENDER
from bench.programs.shapes import SHORT, Shape, of


def run(port: int, count: int, sessions: int, shape: str = SHORT) -> dict[str, float]:
    """Send ``count`` messages; return when it began, seconds and CPU seconds."""
    kinds, seconds, began = of(shape), 0.0, time.perf_counter()
    for number, kind in enumerate(kinds):
        if share := len(range(number, count, len(kinds))):
            seconds += _send(port, share, sessions, kind)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"began": began, "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}


def _send(port: int, count: int, sessions: int, shape: Shape) -> float:
    """Send ``count`` messages of one shape and return the seconds."""
    with tempfile.NamedTemporaryFile(suffix=".eml") as file:
        file.write(message(shape).replace(b"\r\n", b"\n"))
        file.flush()
        # With -N and -r no address is used twice.
        what = ["-F", file.name, "-f", SENDER, "-t", f"u@{DOMAIN}", "-N", "-r", str(shape.recipients), "-M", HOSTNAME]
        argv = [
            postfix.program("smtp-source"),
            "-d",
            "-s",
            str(min(sessions, count)),
            "-m",
            str(count),
            *what,
            f"127.0.0.1:{port}",
        ]
        began = time.perf_counter()
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout[-1000:])
        return time.perf_counter() - began


if __name__ == "__main__":
    _port, _count, _sessions = map(int, sys.argv[1:4])
    print(json.dumps(run(_port, _count, _sessions, *sys.argv[4:])))
