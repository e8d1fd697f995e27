"""Checks whether a part of the service is alive, for containers.

Run as ``python deploy/healthcheck.py api|worker|catcher``; exit code 0 means alive, 1 dead. It
needs only the standard library.
"""

import fcntl
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path


def api() -> bool:
    """Return whether the API answers /health."""
    url = f"http://127.0.0.1:{_port('MAILBBGUN_PORT', 5000)}/health"
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def worker() -> bool:
    """Return whether a living worker holds the lock of a journal.

    The kernel releases that lock when the process ends. A worker that is alive but stuck shows in
    /ready.
    """
    name = os.environ.get("MAILBBGUN_VAR", "var")
    name = name.replace("{HOSTNAME}", os.environ.get("MAILBBGUN_HOSTNAME") or socket.gethostname())
    var = Path(__file__).resolve().parents[1] / name
    journals = (var / "journal").glob("*.journal")
    return any(_held(journal) for journal in journals)


def catcher() -> bool:
    """Return whether the catcher sends its greeting."""
    address = ("127.0.0.1", _port("MAILBBGUN_CATCHER_PORT", 1025))
    try:
        with socket.create_connection(address, timeout=4) as link:
            greets = link.recv(4) == b"220 "
            link.sendall(b"QUIT\r\n")
            return greets
    except OSError:
        return False


def _port(variable: str, usual: int) -> int:
    """Return a port from the environment, or ``usual``.

    For a Service called mailbbgun, Kubernetes sets the same variable to tcp://…, which is ignored
    here as it is in the settings.
    """
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else usual


def _held(journal: Path) -> bool:
    try:
        with journal.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass  # replayed and removed meanwhile
    return False


def main(arguments: list[str]) -> int:
    """Run the check that the arguments name and return the exit code; 2 for wrong usage."""
    parts = {"api": api, "worker": worker, "catcher": catcher}
    usage = f"Usage: deploy/healthcheck.py {'|'.join(parts)}"
    if arguments in (["-h"], ["--help"]):
        print(usage + "\nExit codes: 0 alive, 1 dead, 2 wrong usage.")
        return 0
    if len(arguments) != 1 or arguments[0] not in parts:
        print(usage, file=sys.stderr)
        return 2
    return 0 if parts[arguments[0]]() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
