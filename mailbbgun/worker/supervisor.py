"""The supervisor: several worker processes as one, started together, replaced when one dies, told to stop together.

One process of Python uses one core; what they share is the queue and the database.
"""

import ctypes
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time

from mailbbgun.core.process import LOOK_SECONDS, STOPPING, next_event, on_stop
from mailbbgun.settings.paths import PROJECT

REST = (1.0, 2.0, 5.0)  # seconds before one that died is replaced, longer if its predecessor died young as well
YOUNG = 10.0  # seconds
_SET_PDEATHSIG = 1  # linux/prctl.h

log = logging.getLogger("mailbbgun.worker.supervisor")


class Supervisor:
    """The leader of ``count`` workers. Delivers nothing itself, so nothing that mail does can kill it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._members: dict[int, subprocess.Popen[bytes]] = {}
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._code = 0

    def run(self) -> int:
        """Work until told to stop, or until a member finds that something is set wrong; return the exit code."""
        on_stop(lambda: self._asked_to_stop.put(None))
        threading.Thread(target=self._await_the_end, name="end", daemon=True).start()
        places = [
            threading.Thread(target=self._fill, args=(place,), name=f"place-{place}") for place in range(self._count)
        ]
        for place in places:
            place.start()
        for place in places:
            while place.is_alive():
                place.join(LOOK_SECONDS)  # see next_event
        return self._code

    def _fill(self, place: int) -> None:
        deaths, first = 0, True
        while not self._stop.is_set():
            began = time.monotonic()
            code = self._member(place)
            if self._stop.is_set():
                if -code not in STOPPING:  # told before it had begun
                    self._code = self._code or abs(code)
                return
            if (
                code == os.EX_CONFIG and first
            ):  # later, somebody is editing config.py: the others go on, and so does this one when it is right
                self._code = code
                self._end()
                return
            first = False
            deaths = 0 if time.monotonic() - began > YOUNG else deaths
            rest = REST[min(deaths, len(REST) - 1)]
            deaths += 1
            member = self._members.get(place)
            log.error(
                "worker_died", extra={"worker_pid": member and member.pid, "exit_code": code, "replaced_in": rest}
            )
            self._stop.wait(rest)

    def _member(self, place: int) -> int:
        """Run a member to its end and return its exit code."""
        argv = [sys.executable, "-m", "mailbbgun.worker", "--member-of", str(os.getpid()), "--share", str(self._count)]
        try:
            # Not in our process group: a Ctrl-C would tell it twice, once by us.
            member = subprocess.Popen(argv, cwd=PROJECT, process_group=0)
        except OSError as error:  # no memory, no room for another process
            log.error("worker_not_started", extra={"place": place, "error": str(error)})
            return os.EX_OSERR
        self._members[place] = member
        if self._stop.is_set():
            member.terminate()  # told between the look and the start
        return member.wait()

    def _await_the_end(self) -> None:
        next_event(self._asked_to_stop)
        self._end()

    def _end(self) -> None:
        """Tell each member once: told twice it would not finish what it is sending."""
        if self._stop.is_set():
            return
        self._stop.set()
        for member in list(self._members.values()):
            member.terminate()


def follow(leader: int) -> None:
    """Be told to stop, by the kernel, when the process that started us is gone, however it went.

    To the kernel that is the thread that started us: it waits for us as long as we live.
    """
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != leader:  # gone before we asked
        sys.exit(1)
