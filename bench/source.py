"""Postfix's ``smtp-source``: the message of the bench over connections that stay: ``python -m bench.source PORT COUNT SESSIONS``.

A recipient's address is never used twice. Prints one line of JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time

from bench import postfix
from bench.loop import HOSTNAME, message
from bench.payload import DOMAIN, SENDER


def run(port: int, count: int, sessions: int) -> dict[str, float]:
    """Send ``count`` messages and return when it began, seconds and CPU seconds."""
    with tempfile.NamedTemporaryFile(suffix=".eml") as file:
        file.write(message().replace(b"\r\n", b"\n"))
        file.flush()
        what = ["-F", file.name, "-f", SENDER, "-t", f"u@{DOMAIN}", "-N", "-M", HOSTNAME]
        argv = [postfix.program("smtp-source"), "-d", "-s", str(min(sessions, count)), "-m", str(count), *what, f"127.0.0.1:{port}"]
        began = time.perf_counter()
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stdout[-1000:])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"began": began, "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]))))
