"""The clock of one process. Due times and leases are granted by the database's clock; this one only tells a worker when to stop."""

import time


class Clock:
    """Boot time: it goes on while the machine or the process is suspended, so a worker that was paused sees that its lease ran out."""

    def boot(self) -> float:
        """Return seconds since boot, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
