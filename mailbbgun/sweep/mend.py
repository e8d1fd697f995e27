"""A broker that came back empty, or lost a part: its queues are made again, or it is said loudly
what to run.

The hints that went with the queues need nothing here: ``hints.py`` gives lost ones again.
"""

import logging
import threading
import time

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.queues.base import Queue

LEAST_SECONDS = 1.0  # between two looks of a process, however many threads are in trouble
LOUD_SECONDS = 30.0  # between two lines about what this process cannot put right

log = logging.getLogger("mailbbgun.sweep")


def mend(queue: Queue) -> None:
    """Make what is missing, and say so.

    Raises :class:`QueueUnavailable`, :class:`QueueMisconfigured`.
    """
    if made := queue.mend():
        log.warning(
            "queue_mended",
            extra={"made": ", ".join(made), "why": "it was missing: the broker lost it, or somebody deleted it"},
        )


class Mender:
    """Mends the queue of a process that runs. Thread-safe, and never raises what the queue does."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._looked = self._told = float("-inf")

    def mend(self) -> None:
        """Make what is missing, unless another thread is at it or just was."""
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
            pass  # whoever came here said so
