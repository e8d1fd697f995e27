"""Something that the poller may close at any time, also while a thread works on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class OpenWhileUsed:
    """Calls ``end`` once: when it is closed or, if a thread works then, when that is done."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._lock = Lock()  # of the two flags
        self._busy = self._closed = False

    @contextmanager
    def work(self) -> Iterator[bool]:
        """Keep it open for the block; yield whether it still was. Only one thread at a time may work."""
        with self._lock:
            self._busy = not self._closed
            is_open = self._busy
        try:
            yield is_open
        finally:
            with self._lock:
                self._busy = False
                end = is_open and self._closed
            if end:
                self._end()

    def close(self) -> None:
        """Close it. May be called again."""
        with self._lock:
            end = not (self._closed or self._busy)
            self._closed = True
        if end:
            self._end()
