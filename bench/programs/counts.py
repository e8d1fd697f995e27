"""Counters in a file that several processes of a sink write and the bench reads.

Each process has a row of its own, so that none waits for another. It imports little, so that the
sink stays light.
"""

import mmap
import os
from pathlib import Path

COUNTED = ("sessions", "ended", "encrypted", "logins", "commands", "round_trips", "messages")
"""What a sink counts. ``ended`` are sessions that are over. A message counts once its dot was answered."""

_WORD = 8  # bytes of a counter
_ROW = len(COUNTED) * _WORD


class Row:
    """The counters of one process."""

    def __init__(self, file: Path, number: int) -> None:
        """Map row ``number`` of a file that :func:`create` has made."""
        descriptor = os.open(file, os.O_RDWR)
        try:
            whole = memoryview(mmap.mmap(descriptor, 0))
        finally:
            os.close(descriptor)
        self._counters = whole[number * _ROW : (number + 1) * _ROW].cast("Q")

    def add(self, name: str, more: int = 1) -> None:
        """Add to the counter ``name`` of :data:`COUNTED`."""
        self._counters[COUNTED.index(name)] += more


def create(file: Path, processes: int) -> None:
    """Make a file with zeros for so many processes."""
    file.write_bytes(bytes(processes * _ROW))


def read(file: int) -> dict[str, int]:
    """Return the sums over all processes, from the descriptor of a file."""
    words = memoryview(os.pread(file, os.fstat(file).st_size, 0)).cast("Q")
    return {name: sum(words[number :: len(COUNTED)]) for number, name in enumerate(COUNTED)}
