"""Counts the requests that one API process has answered."""

import os
import time

from mailbbgun.counters.counters import Counters, Labels
from mailbbgun.counters.families import LAST_REQUEST, REQUESTS

#: What requests with these results are called.
SUCCESSFUL, FAILED = "successful", "failed"


class RequestCounts:
    """Counts answers. Thread-safe."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last = 0.0  # seconds since 1970
        counters.gauge(LAST_REQUEST, self._read)

    def note(self, status: int) -> None:
        """Count an answer with this status."""
        self._last = time.time()
        self._counters.add(REQUESTS, SUCCESSFUL if status < 400 else FAILED)

    def _read(self) -> dict[Labels, float]:
        return {(str(os.getpid()),): self._last} if self._last else {}
