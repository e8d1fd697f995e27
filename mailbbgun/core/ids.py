"""Makes time-ordered ids: UUID version 7 (RFC 9562 §5.7).

Ids sort by age, so a list of the newest rows and a claim of the oldest ones walk along an index.
"""

import os
import struct
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

#: The tenant that always exists. Mail of requests without a key is this tenant's.
DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000000")

_VERSION_7 = 7 << 76
_VARIANT = 2 << 62
#: Random bits are drawn for this many ids at once.
DRAWN = 256
#: How many of the 74 random bits count up, so that ids made within one millisecond still sort by
#: age.
_COUNTER_BITS = 42


class _Sequence:
    """Makes ids that only grow within one process, even if the system clock is set back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Drop the random bits that were drawn.

        A fork has them too, and no two processes may use the same.
        """
        self._random: Iterator[tuple[int, int]] = iter(())

    def next(self) -> int:
        """Return the 128 bits of the next id."""
        return self.take(1)[0]

    def take(self, n: int) -> list[int]:
        """Return the 128 bits of the next ``n`` ids. No other id sorts between two of them."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            seed, noise = next(self._random, None) or self._drawn()
            if now > self._milliseconds:
                self._milliseconds = now
                self._counter = seed & ((1 << (_COUNTER_BITS - 1)) - 1)
            else:
                self._counter += 1
            milliseconds, first = self._milliseconds, self._counter
            self._counter += n - 1
        stamp = (milliseconds << 80) | _VERSION_7 | _VARIANT
        noises = (noise,) if n == 1 else (noise, *struct.unpack(f"<{n - 1}I", os.urandom(4 * (n - 1))))
        tails = [((first + place) << 32) | noise for place, noise in enumerate(noises)]
        return [stamp | ((tail >> 62) << 64) | (tail & ((1 << 62) - 1)) for tail in tails]

    def _drawn(self) -> tuple[int, int]:
        # A system call releases the GIL, and it takes milliseconds to get it back from other
        # threads. So draw for many ids at once.
        self._random = struct.iter_unpack("<QI", os.urandom(12 * DRAWN))
        return next(self._random)


_sequence = _Sequence()


def new_id() -> UUID:
    """Return a new UUIDv7 that sorts after all earlier ones of this process."""
    return UUID(int=_sequence.next())


def new_ids(n: int) -> list[UUID]:
    """Return ``n`` new ids as :func:`new_id` makes them, in half the time.

    No other id of this process sorts between the first and the last of them.
    """
    return [UUID(int=one) for one in _sequence.take(n)]


def first_id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment (an aware datetime), as a bound for ranges of ids."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT)
