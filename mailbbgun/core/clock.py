"""The clock of one process, and the text form of times.

The database's clock decides when a delivery is due and when a lease ends. The clock of a process
only measures durations: how long a worker may trust its own lease, how long it pauses a server.
"""

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since boot. Goes on while the machine or the process is suspended.

    So a worker that was suspended sees that its lease has run out.
    """

    def boot(self) -> float:
        """Return seconds since boot, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(moment: datetime) -> str:
    """Return a moment in the form that all answers and logs use: ``2026-01-01T12:00:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


#: The longest rest, in seconds.
LONGEST = 0.1


#: The longest rest, in seconds, of what mail of high priority waits for.
LONGEST_URGENT = 0.005


def rest_after(seconds: float, *, times: float = 3, longest: float = LONGEST) -> float:
    """Return how long to rest after a batch that took ``seconds``: ``times`` that, at most ``longest`` (0.1 s).

    During the rest more work arrives, and is then done in one batch. The busier the machine, the
    longer a batch takes, and the larger the next one is. Work that arrives after the rest starts at
    once.
    """
    return min(longest, times * seconds)
