"""The poller: it waits for sockets to be ready and for threads to call."""

import os
import selectors
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Poller:
    """Calls the handler of each file that is ready, in one thread. Handlers must not block.

    ``failed`` is told of an error of a handler's, which ends nothing else.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._selector.register(self._wake_reader, READ, self._wake_up)

    def watch(self, file: Any, ready: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with ``READ`` or ``WRITE`` whenever the file is ready for what ``ready`` asks for."""
        self._selector.register(file, ready, handler)

    def change(self, file: Any, ready: int, handler: Callable[[int], None]) -> None:
        """Watch for something else."""
        self._selector.modify(file, ready, handler)

    def ignore(self, file: Any) -> None:
        """Watch a file no longer."""
        self._selector.unregister(file)

    def call(self, function: Callable[[], None]) -> None:
        """Let the poller call a function in its next turn. From any thread, and from signal handlers."""
        self._calls.append(function)
        if not self._woken:  # once is enough for all calls before it looks
            self._woken = True
            os.write(self._wake_writer, b"\0")

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function in the next turn, after others had theirs. Only from handlers."""
        self._calls.append(function)

    def turn(self, seconds: float) -> None:
        """Wait at most that long, then call the handlers of all files that are ready, and what threads asked for."""
        for key, ready in self._selector.select(0 if self._calls else seconds):
            self._try(partial(key.data, ready))
        for _ in range(len(self._calls)):  # not those that they add: files first
            self._try(self._calls.popleft())

    def close(self) -> None:
        """Close what it waits by; not the files it watched. Calls are ignored from now on.

        Its pipe stays open until the process ends: a thread that is about to write to it would write to whose file has its number then.
        """
        self._woken = True
        self._selector.close()

    def _try(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:  # noqa: BLE001 - a bug of ours: whoever else waits must not be ended with it
            self._failed()

    def _wake_up(self, _ready: int) -> None:
        os.read(self._wake_reader, 16)
        self._woken = False
