"""Fault points: named moments in the life of a delivery at which tests kill or stop this process.

``MAILBBGUN_FAULT=claim.committed:3:kill`` kills it (-9) the third time it comes there; ``…:stop:SECONDS`` stops it (SIGSTOP) for so long. Refused
unless ``MAILBBGUN_FAULTS_ALLOWED`` is 1. Neither is a setting: no ``config.py`` can have them. Without them a point costs a look into an empty dict.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping

from mailbbgun.core.errors import ConfigurationError

FAULT, ALLOWED = VARIABLES = ("MAILBBGUN_FAULT", "MAILBBGUN_FAULTS_ALLOWED")
POINTS = (
    "accept.commit",
    "accept.committed",
    "hints.publish",
    "hints.published",
    "claim.commit",
    "claim.committed",
    "claim.acked",
    "dot.write",
    "dot.written",
    "dot.sent",
    "reply.write",
    "reply.written",
    "results.commit",
    "results.committed",
    "claims.release",
    "replay.commit",
    "replay.committed",
    "sweep",
)
"""In the order of the flow: an imperative is the moment before, a participle the moment after."""

_armed: dict[str, "Fault"] = {}  # of this process, as signal handlers are


class Fault:
    """What is to happen the ``time``-th time: ``seconds`` of standstill, or death if that is None."""

    def __init__(self, point: str, time: int, seconds: float | None) -> None:
        self.point = point
        self._left = time
        self._seconds = seconds
        self._lock = threading.Lock()

    def strike(self) -> None:
        """Count; at zero say so on standard error and do it."""
        with self._lock:
            self._left -= 1
            if self._left:
                return
            os.write(2, f"fault {self.point}\n".encode())
            if self._seconds is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                waker = f"sleep {self._seconds}; kill -CONT {os.getpid()}"
                subprocess.Popen(["/bin/sh", "-c", waker], start_new_session=True)
                # To this thread: one to the process is another thread's to take, and until that one runs we would go on.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def fault(point: str) -> None:
    """Do here what was asked for; as a rule nothing."""
    if point in _armed:
        _armed[point].strike()


def arm(environ: Mapping[str, str] = os.environ) -> None:
    """Arm this process, and those it forks, as the environment asks. Raises :class:`ConfigurationError`."""
    if wanted := wanted_by(environ):
        _armed[wanted.point] = wanted


def wanted_by(environ: Mapping[str, str]) -> Fault | None:
    """Read what the environment asks for. Raises :class:`ConfigurationError` if it is not allowed there, or makes no sense."""
    value = environ.get(FAULT)
    if value is None:
        return None
    if environ.get(ALLOWED) != "1":
        raise ConfigurationError(f"{FAULT}: kills or stops this process, and is only for tests, which set {ALLOWED}=1")
    point, _, rest = value.partition(":")
    time, _, action = rest.partition(":")
    what, _, seconds = action.partition(":")
    try:
        if point not in POINTS or int(time) < 1 or what not in ("kill", "stop") or (what == "kill" and seconds):
            raise ValueError(value)
        return Fault(point, int(time), float(seconds) if what == "stop" else None)
    except ValueError as error:
        raise ConfigurationError(
            f"{FAULT}: {value!r} is not POINT:TIME:kill or POINT:TIME:stop:SECONDS; points are {', '.join(POINTS)}"
        ) from error
