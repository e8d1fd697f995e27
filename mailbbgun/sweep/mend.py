"""Makes queues again that the broker lost, or logs which command makes them.

The hints that were lost with the queues are published again by ``hints.py``.
"""

import logging
import threading
import time

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.queues.base import Queue

#: Seconds between two looks of a process, however many threads are in trouble.
LEAST_SECONDS = 1.0

#: Seconds between two log lines about queues that this process cannot make.
LOUD_SECONDS = 30.0

log = logging.getLogger("mailbbgun.sweep")


def mend(queue: Queue) -> None:
    """Make the missing parts of the queue and log them.

    Raises :class:`QueueUnavailable`, :class:`QueueMisconfigured`.
    """
    if made := queue.mend():
        log.warning(
            "queue_mended",
            extra={"made": ", ".join(made), "why": "it was missing: the broker lost it, or somebody deleted it"},
        )


class Mender:
    """Mends the queue of a running process. Thread-safe; never raises an error of the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._looked = self._told = float("-inf")

    def mend(self) -> None:
        """Make what is missing, unless another thread is doing it or has just done it."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if time.monotonic() >= self._looked + LEAST_SECONDS:
                self._mend()
                self._looked = time.monotonic()
        finally:
            self._lock.release()

    def _mend(self) -> None:
        try:
            mend(self._queue)
        except QueueMisconfigured as error:
            if time.monotonic() >= self._told + LOUD_SECONDS:
                log.error("queue_broken", extra={"error": str(error)})
                self._told = time.monotonic()
        except QueueUnavailable:
            pass  # the caller has logged it already
