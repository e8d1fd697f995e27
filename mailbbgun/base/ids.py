"""Time-ordered ids: UUID version 7 (RFC 9562 §5.7), so newest-first lists and claims walk an index."""

import os
import threading
import time
from datetime import datetime
from uuid import UUID

_VERSION_7 = 7 << 76
_VARIANT = 2 << 62
_COUNTER_BITS = 42  # of the 74 random bits, so that ids made within one millisecond still sort by age


class _Sequence:
    """Makes ids that only grow within one process, even if the wall clock steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0

    def next(self) -> int:
        """Return the 128 bits of the next id."""
        now = time.time_ns() // 1_000_000
        seed = int.from_bytes(os.urandom(9), "big")
        with self._lock:
            if now > self._milliseconds:
                self._milliseconds = now
                self._counter = (seed >> 32) & ((1 << (_COUNTER_BITS - 1)) - 1)
            else:
                self._counter += 1
            milliseconds, counter = self._milliseconds, self._counter
        tail = (counter << 32) | (seed & 0xFFFFFFFF)
        return (milliseconds << 80) | _VERSION_7 | ((tail >> 62) << 64) | _VARIANT | (tail & ((1 << 62) - 1))


_sequence = _Sequence()


def new_id() -> UUID:
    """Return a new UUIDv7; later ones of the same process sort after earlier ones."""
    return UUID(int=_sequence.next())


def first_id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of that moment (aware datetime): a bound for ranges over ids."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT)
