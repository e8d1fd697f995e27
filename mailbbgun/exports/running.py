"""Counts the exports that run in one process, and ends the count with the answer."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Self
from uuid import UUID

from mailbbgun.core.errors import RateLimited

#: Exports at once in one process. Each makes its next page only when its client has read the one before.
MOST = 16
#: Exports of one tenant at once in one process, so that slow clients of one leave room for others.
MOST_OF_TENANT = 2
#: Exports at once in one process that are collected for clients of HTTP/1.0: each keeps a thread until it is whole.
MOST_COLLECTED = 2
#: Seconds after which a client that found no room should try again.
RETRY_SECONDS = 10


class RunningExports:
    """The exports that run in this process. Thread-safe."""

    def __init__(self) -> None:
        self._running: Counter[UUID] = Counter()
        self._collected = 0
        self._lock = threading.Lock()

    def begin(self, tenant_id: UUID, lines: Iterator[bytes], *, collected: bool = False) -> "RunningExport":
        """Begin an export; it counts until it is closed. Raises :class:`RateLimited`.

        Its first lines are made now. Raises what making them raises. ``collected``: a thread makes all of it
        before the client gets any.
        """
        with self._lock:
            if self._running[tenant_id] >= MOST_OF_TENANT:
                raise _too_many(f"{MOST_OF_TENANT} of your exports", MOST_OF_TENANT)
            if self._running.total() >= MOST:
                raise _too_many(f"{MOST} exports", MOST)
            if collected and self._collected >= MOST_COLLECTED:
                raise _too_many(f"{MOST_COLLECTED} exports over HTTP/1.0", MOST_COLLECTED)
            self._running[tenant_id] += 1
            self._collected += collected
        try:
            return RunningExport(chain([next(lines, b"")], lines), lambda: self._end(tenant_id, collected))
        except BaseException:
            self._end(tenant_id, collected)
            raise

    def _end(self, tenant_id: UUID, collected: bool) -> None:
        with self._lock:
            self._collected -= collected
            self._running[tenant_id] -= 1
            self._running += Counter()  # forgets tenants that have none


class RunningExport:
    """The lines of an export. The server closes it at its end, or when something fails."""

    def __init__(self, lines: Iterator[bytes], end: Callable[[], None]) -> None:
        self._lines, self._end, self._open = lines, end, True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._lines)

    def close(self) -> None:
        """Stop counting it. May be called again."""
        if self._open:
            self._open = False
            self._end()


def _too_many(running: str, most: int) -> RateLimited:
    sentence = f"{running} are running here already, and no more run at once; try again later."
    return RateLimited(sentence, limit=most, retry_after=RETRY_SECONDS)
