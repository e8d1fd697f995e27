"""How fast webhooks are sent while mail needs the cores.

A low priority is not enough: between two of its tasks mail waits for the disk, and work that fills every such gap
still takes memory bandwidth, caches and the way to a core that was free. So where threads have to wait for a core,
this process rests.

"How long threads wait for cores" is the second number of ``schedstat`` (Linux, scheduler/sched-stats.rst).
"""

import contextlib
import os
import time

#: The share of one core that webhooks have while others wait for cores. It is enough for a few hundred requests a
#: second, so that nobody who keeps all cores busy for hours stops them.
SHARE = 0.05
#: Others wait for cores if this thread waits for so many times as long as it works.
BUSY = 0.25
#: Seconds between two looks, and the longest rest.
LOOK, LONGEST = 0.05, 1.0


class Pace:
    """Knows when the thread that made it, and its process, should rest. On a kernel that does not tell, never."""

    def __init__(self) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):  # a kernel without scheduler statistics
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._looked, self._cpu = time.monotonic(), time.process_time()
        self._ran, self._waited = self._read()

    def rest(self) -> float:
        """Return for how many seconds to rest now."""
        now = time.monotonic()
        if self._file is None or now - self._looked < LOOK:
            return 0.0
        cpu, (ran, waited) = time.process_time(), self._read()
        busy = waited - self._waited > BUSY * (ran - self._ran)
        rest = resting(cpu - self._cpu, now - self._looked) if busy else 0.0
        self._looked, self._cpu, self._ran, self._waited = now + rest, cpu, ran, waited
        return rest

    def _read(self) -> tuple[int, int]:
        """Return for how many nanoseconds this thread has worked, and waited for a core."""
        if self._file is None:
            return 0, 0
        ran, waited, _ = os.pread(self._file, 100, 0).split()
        return int(ran), int(waited)


def resting(cpu: float, elapsed: float) -> float:
    """Return how long to rest after ``cpu`` seconds of work within ``elapsed`` seconds, so that SHARE is kept. Pure."""
    return min(max(cpu / SHARE - elapsed, 0.0), LONGEST)
