"""The overflow lane: mail of a tenant that hands over so much that others would wait behind it.

Hints are taken in the order in which they were given, so a hundred thousand of one tenant would
stand before the one of another. Each process counts by itself, in a leaky bucket for each tenant:
messages beyond a steady rate and a burst go to that lane.
"""

import threading
import time
from collections.abc import Callable
from uuid import UUID

from mailbbgun.queues.lanes import NORMAL, OVERFLOW, lane_of

BURST = 300  # messages at once that stay on the normal lane
PER_SECOND = 20.0  # that stay there in the long run
MOST_KNOWN = 10_000  # tenants


class Overflow:
    """Chooses the lane of each message by how many its tenant has handed over. Thread-safe.

    ``clock`` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: dict[UUID, tuple[float, float]] = {}  # tenant → how full its bucket was, and when

    def count_and_choose_lane(self, tenant_id: UUID, priority: int) -> str:
        """Count a message that is handed over, and return its lane. Urgent and bulk messages keep theirs."""
        now = self._clock()
        with self._lock:
            level, then = self._levels.get(tenant_id, (0.0, now))
            level = max(0.0, level - (now - then) * PER_SECOND) + 1
            if tenant_id not in self._levels and len(self._levels) >= MOST_KNOWN:
                self._levels.clear()
            self._levels[tenant_id] = min(level, 2.0 * BURST), now
        lane = lane_of(priority)
        return OVERFLOW if lane == NORMAL and level > BURST else lane
