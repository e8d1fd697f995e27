"""The lanes of a queue, and their turns by weighted round robin.

Every lane moves on, even bulk. Mail of high priority does not wait behind bulk mail, and no tenant
waits behind another tenant's overflow.
"""

from collections.abc import Mapping, Sized

#: The overflow lane, "crowd" in the names of queues, carries normal mail of a tenant that submits
#: much at once.
HIGH, NORMAL, OVERFLOW, BULK = "high", "normal", "crowd", "bulk"
LANES = (HIGH, NORMAL, OVERFLOW, BULK)
WEIGHTS = {HIGH: 16, NORMAL: 4, OVERFLOW: 3, BULK: 1}


def shown(lane: str) -> str:
    """Return how people call a lane: the overflow lane has another name in queues."""
    return "overflow" if lane == OVERFLOW else lane


def lane_of(priority: int) -> str:
    """Return the lane of a priority from 0 to 9; 9 is the most urgent."""
    return HIGH if priority >= 7 else NORMAL if priority >= 4 else BULK


class WeightedRoundRobin:
    """Smooth weighted round robin over the lanes that are not empty. Not thread-safe.

    Of 24 turns with all lanes busy, high gets 16, normal 4, overflow 3 and bulk 1, spread evenly.
    """

    def __init__(self) -> None:
        self._credit = dict.fromkeys(LANES, 0)

    def next(self, waiting: Mapping[str, Sized]) -> str | None:
        """Return the lane whose turn it is, or None if all lanes are empty."""
        busy = [lane for lane in LANES if waiting[lane]]
        if len(busy) < 2:  # a lane that is alone keeps its credit
            return busy[0] if busy else None
        for lane in busy:
            self._credit[lane] += WEIGHTS[lane]
        chosen = max(busy, key=lambda lane: self._credit[lane])
        self._credit[chosen] -= sum(WEIGHTS[lane] for lane in busy)
        return chosen
