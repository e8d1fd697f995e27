"""The clock of one process, and how times are told.

Due times and leases are granted by the database's clock; this one only tells a worker when to stop.
"""

import time
from datetime import UTC, datetime


class Clock:
    """Boot time: it goes on while the machine or the process is suspended, so a worker that was paused sees that its lease ran out."""

    def boot(self) -> float:
        """Return seconds since boot, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(moment: datetime) -> str:
    """Return a moment as it is told everywhere: ``2026-01-01T12:00:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


LONGEST = 0.1  # seconds


def rest_after(seconds: float, *, times: float = 3) -> float:
    """Return how long to rest after work that took ``seconds``, for more to come together: so many times as long.

    Who comes first after a rest is served at once. The busier the machine, the longer all takes, and the larger batches grow.
    """
    return min(LONGEST, times * seconds)
