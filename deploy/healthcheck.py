"""Checks whether a part of the service is alive, for containers.

Run as ``python deploy/healthcheck.py api|worker|smtpd|catcher``; exit code 0 means alive, 1 dead. It
needs only the standard library.
"""

import contextlib
import fcntl
import os
import socket
import ssl
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


def smtpd() -> bool:
    """Return whether the SMTP door sends its greeting; by TLS, if that is the only port."""
    for name, usual in (("SMTPD_PORT", 2525), ("MX_LISTEN_PORT", 0)):
        if port := _port(f"MAILBBGUN_{name}", usual):
            return _greets(port)
    return _greets(_port("MAILBBGUN_SMTPD_TLS_PORT", 0), tls=True)


def catcher() -> bool:
    """Return whether the catcher sends its greeting."""
    return _greets(_port("MAILBBGUN_CATCHER_PORT", 1025))


def _greets(port: int, *, tls: bool = False) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=4) as plain, contextlib.ExitStack() as stack:
            # Whose certificate it is does not matter: we ask our own machine whether it is alive.
            link = stack.enter_context(ssl._create_unverified_context().wrap_socket(plain)) if tls else plain
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
    parts = {"api": api, "worker": worker, "smtpd": smtpd, "catcher": catcher}
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
