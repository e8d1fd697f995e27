"""The two clocks of one process. Leases and due times are judged by the database's clock, never by these."""

import time
from datetime import UTC, datetime


class Clock:
    """Wall clock for what people read, boot-time clock for deadlines.

    Boot time goes on while the machine or the process is suspended, so a worker that was paused sees that its lease ran out.
    """

    def now(self) -> datetime:
        """Return the wall-clock time, aware, UTC."""
        return datetime.now(UTC)

    def boot(self) -> float:
        """Return seconds since boot, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
