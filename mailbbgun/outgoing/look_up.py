"""Bounds how long a look-up of a host may take.

The system's resolver may wait for a silent name server for half a minute. So a look-up runs in a thread of its own,
and its caller waits only as long as it has time. Callers that want the same host wait for the same look-up: one silent
name server occupies one thread.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong
from contextlib import suppress

from mailbbgun.core.net import Guard

#: Look-ups at once in one process.
MOST = 64


class LookUps:
    """Finds the permitted addresses of hosts. Thread-safe."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[tuple[str, ...]]] = {}

    def addresses(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """Return the permitted IP addresses of a host, best first; see :meth:`Guard.addresses`.

        Raises :class:`NotPermitted`; ``TimeoutError`` if it takes longer, or too many look-ups are waited for;
        ``OSError`` or ``UnicodeError`` if the look-up fails.
        """
        with self._lock:
            found = self._running.get((host, port))
            if found is None:
                if len(self._running) >= MOST:
                    raise TimeoutError("too many look-ups are waited for")
                found = Future()
                try:
                    threading.Thread(target=self._run, args=(host, port, found), name="look-up", daemon=True).start()
                except RuntimeError as error:  # else all who want this host would wait for a look-up that never runs
                    raise TimeoutError("no thread is free to look it up") from error
                self._running[host, port] = found
        try:
            return found.result(seconds)
        except WaitedTooLong as error:
            raise TimeoutError("the name server did not answer in time") from error

    def _run(self, host: str, port: int, found: Future[tuple[str, ...]]) -> None:
        try:
            result = self._guard.addresses(host, port)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller raises it
            self._forget(host, port)
            found.set_exception(error)
        else:
            self._forget(host, port)
            found.set_result(result)

    def _forget(self, host: str, port: int) -> None:
        with self._lock, suppress(KeyError):
            del self._running[host, port]
