"""Lanes in weighted round robin: bulk always moves, high never waits behind it, and nobody behind
another tenant's overflow.
"""

from collections.abc import Mapping, Sized

#: Overflow, "crowd" in the names of queues, is normal mail of a tenant that hands over much at
#: once.
HIGH, NORMAL, OVERFLOW, BULK = "high", "normal", "crowd", "bulk"
LANES = (HIGH, NORMAL, OVERFLOW, BULK)
WEIGHTS = {HIGH: 16, NORMAL: 4, OVERFLOW: 3, BULK: 1}


def lane_of(priority: int) -> str:
    """Return the lane of a priority 0–9, 9 first."""
    return HIGH if priority >= 7 else NORMAL if priority >= 4 else BULK


class WeightedRoundRobin:
    """Smooth weighted round robin over the lanes that have something.

    Of 24 turns with all lanes busy, high gets 16, normal 4, overflow 3 and bulk 1, spread evenly.
    Not thread-safe.
    """

    def __init__(self) -> None:
        self._credit = dict.fromkeys(LANES, 0)

    def next(self, waiting: Mapping[str, Sized]) -> str | None:
        """Return the lane whose turn it is among those with something waiting; None when all are
        empty.
        """
        busy = [lane for lane in LANES if waiting[lane]]
        if not busy:
            return None
        for lane in busy:
            self._credit[lane] += WEIGHTS[lane]
        chosen = max(busy, key=lambda lane: self._credit[lane])
        self._credit[chosen] -= sum(WEIGHTS[lane] for lane in busy)
        return chosen
