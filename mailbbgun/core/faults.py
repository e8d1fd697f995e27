"""Fault points: named moments in the life of a delivery at which tests kill or stop this process.

``MAILBBGUN_FAULT=claim.committed:3:kill`` kills the process (SIGKILL) when it reaches that point
for the third time. ``…:3:stop:SECONDS`` stops it (SIGSTOP) for so many seconds. Both are refused
unless ``MAILBBGUN_FAULTS_ALLOWED`` is 1. Neither variable is a setting, so no ``config.py`` can
contain them. Without them a point costs one look into an empty dict.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping

from mailbbgun.core.errors import ConfigurationError

FAULT, ALLOWED = VARIABLES = ("MAILBBGUN_FAULT", "MAILBBGUN_FAULTS_ALLOWED")
#: In the order of the flow. An imperative names the moment before a step, a participle the moment
#: after.
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

#: The faults of this process, by their points. Module state, because a signal concerns the whole
#: process.
_armed: dict[str, "Fault"] = {}


class Fault:
    """Strikes when its point is reached for the ``time``-th time.

    It then stops the process for ``seconds``, or kills it if that is None.
    """

    def __init__(self, point: str, time: int, seconds: float | None) -> None:
        self.point = point
        self._left = time
        self._seconds = seconds
        self._lock = threading.Lock()

    def strike(self) -> None:
        """Count one visit of the point. At the last one say so on standard error and strike."""
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
                # A signal to the process may be taken by another thread, and this one would run on
                # until then. So send it to this thread.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def fault(point: str) -> None:
    """Mark a fault point: strike if the environment asked for a fault here, else do nothing."""
    if point in _armed:
        _armed[point].strike()


def arm(environ: Mapping[str, str] = os.environ) -> None:
    """Arm this process, and those that it forks, with the fault that the environment asks for.

    Raises :class:`ConfigurationError`.
    """
    if wanted := wanted_by(environ):
        _armed[wanted.point] = wanted


def wanted_by(environ: Mapping[str, str]) -> Fault | None:
    """Return the fault that the environment asks for; None if it asks for none.

    Raises :class:`ConfigurationError` if faults are not allowed there, or if the value is
    malformed.
    """
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
