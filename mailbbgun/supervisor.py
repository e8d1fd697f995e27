"""The supervisor: it runs several processes of a program as one, for workers and the SMTP door.

It starts them together, replaces one that dies, and stops them together. One Python process uses
only one core. The processes share the queue and the database.
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

#: Seconds before a dead process is replaced. The rest is longer if those before it died young, too.
REST = (1.0, 2.0, 5.0)

#: Seconds. A process that lives shorter than this has died young.
YOUNG = 10.0

_SET_PDEATHSIG = 1  # linux/prctl.h

log = logging.getLogger("mailbbgun.supervisor")


class Supervisor:
    """The leader of ``count`` processes. It handles no message itself, so none can kill it."""

    def __init__(self, count: int, program: str) -> None:
        """``program`` is the module that each process runs, such as ``mailbbgun.worker``."""
        self._count = count
        self._program, self._name = program, program.rpartition(".")[2]
        self._members: dict[int, subprocess.Popen[bytes]] = {}
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._code = 0

    def run(self) -> int:
        """Run until told to stop, or until a member finds a wrong setting at the start.

        Return the exit code.
        """
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
                if -code not in STOPPING:  # else it was stopped before it had its signal handlers
                    self._code = self._code or abs(code)
                return
            # Later than at the start, somebody is editing config.py: the other members go on, and
            # this one is started again until the settings are right.
            if code == os.EX_CONFIG and first:
                self._code = code
                self._end()
                return
            first = False
            deaths = 0 if time.monotonic() - began > YOUNG else deaths
            rest = REST[min(deaths, len(REST) - 1)]
            deaths += 1
            member = self._members.get(place)
            died = {f"{self._name}_pid": member and member.pid, "exit_code": code, "replaced_in": rest}
            log.error(f"{self._name}_died", extra=died)
            self._stop.wait(rest)

    def _member(self, place: int) -> int:
        """Start a member, wait until it ends, and return its exit code."""
        argv = [sys.executable, "-m", self._program, "--member-of", str(os.getpid()), "--share", str(self._count)]
        try:
            # In a process group of its own: otherwise a Ctrl-C would stop it twice, once through
            # us.
            member = subprocess.Popen(argv, cwd=PROJECT, process_group=0)
        except OSError as error:  # no memory, no room for another process
            log.error(f"{self._name}_not_started", extra={"place": place, "error": str(error)})
            return os.EX_OSERR
        self._members[place] = member
        if self._stop.is_set():
            member.terminate()  # we were told to stop while it was started
        return member.wait()

    def _await_the_end(self) -> None:
        next_event(self._asked_to_stop)
        self._end()

    def _end(self) -> None:
        """Stop each member once: stopped twice, it would not finish what it is sending."""
        if self._stop.is_set():
            return
        self._stop.set()
        for member in list(self._members.values()):
            member.terminate()


def follow(leader: int) -> None:
    """Let the kernel stop us when the process that started us is gone, even by SIGKILL.

    For the kernel, this means the thread that started us. That thread waits for us until we end.
    """
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != leader:  # it ended before we asked
        sys.exit(1)
