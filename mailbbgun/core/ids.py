"""Time-ordered ids: UUID version 7 (RFC 9562 §5.7), so newest-first lists and claims walk an index."""

import os
import struct
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000000")
"""The tenant that always is: whose mail it is when nobody shows a key."""

_VERSION_7 = 7 << 76
_VARIANT = 2 << 62
DRAWN = 256  # ids' random bits at once
_COUNTER_BITS = 42  # of the 74 random bits, so that ids made within one millisecond still sort by age


class _Sequence:
    """Makes ids that only grow within one process, even if the wall clock steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Start anew with what must not be used twice."""
        self._random: Iterator[tuple[int, int]] = iter(())

    def next(self) -> int:
        """Return the 128 bits of the next id."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            seed, noise = next(self._random, None) or self._drawn()
            if now > self._milliseconds:
                self._milliseconds = now
                self._counter = seed & ((1 << (_COUNTER_BITS - 1)) - 1)
            else:
                self._counter += 1
            milliseconds, counter = self._milliseconds, self._counter
        tail = (counter << 32) | noise
        return (milliseconds << 80) | _VERSION_7 | ((tail >> 62) << 64) | _VARIANT | (tail & ((1 << 62) - 1))

    def _drawn(self) -> tuple[int, int]:
        # Many at once: a system call lets other threads run, and it takes milliseconds to get the interpreter back from them.
        self._random = struct.iter_unpack("<QI", os.urandom(12 * DRAWN))
        return next(self._random)


_sequence = _Sequence()


def new_id() -> UUID:
    """Return a new UUIDv7; later ones of the same process sort after earlier ones."""
    return UUID(int=_sequence.next())


def first_id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of that moment (aware datetime): a bound for ranges over ids."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT)
