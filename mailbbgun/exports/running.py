"""Counts the exports that run in one process, and ends the count with the answer."""

import threading
from collections.abc import Iterator
from typing import Self

from mailbbgun.core.errors import RateLimited

#: Exports at once in one process. Each keeps a thread and a connection to the database busy.
MOST = 2
#: Seconds after which a client that found no room should try again.
RETRY_SECONDS = 10


class RunningExports:
    """The exports that run in this process. Thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._room = threading.BoundedSemaphore(most)

    def begin(self, lines: Iterator[bytes]) -> "RunningExport":
        """Count an export; it counts until it is closed. Raises :class:`RateLimited`."""
        if not self._room.acquire(blocking=False):
            raise RateLimited(
                f"{self._most} exports are running here already, and no more run at once; try again later.",
                limit=self._most,
                retry_after=RETRY_SECONDS,
            )
        return RunningExport(lines, self._room)


class RunningExport:
    """The lines of an export. The server closes it at its end, or when something fails."""

    def __init__(self, lines: Iterator[bytes], room: threading.BoundedSemaphore) -> None:
        self._lines, self._room, self._open = lines, room, True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._lines)

    def close(self) -> None:
        """Stop counting it. May be called again."""
        if self._open:
            self._open = False
            self._room.release()
