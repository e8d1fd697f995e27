"""The poller: one thread that waits until sockets are ready, or until other threads call it."""

import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mailbbgun.server.turns import Share, Turns

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: CPU seconds for clients in one turn of the poller, at least, and seconds in all, at most. Busy
#: threads make the poller wait. Then it looks for new connections, for sockets that have become
#: ready, and for what threads ask for.
BUDGET, LONGEST = 0.005, 0.05


class Poller:
    """Calls the handler of each file that is ready, in one thread. Handlers must not block.

    If a handler raises an error, the poller calls ``failed`` and goes on.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._turns: Turns[Callable[[], None]] = Turns()
        self._woken = False
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._selector.register(self._wake_reader, READ, self._wake_up)

    def watch(self, file: Any, ready: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` whenever the file is ready.

        ``ready`` is READ, WRITE or both, as is its argument.
        """
        self._selector.register(file, ready, handler)

    def change(self, file: Any, ready: int, handler: Callable[[int], None]) -> None:
        """Watch a file for something else."""
        self._selector.modify(file, ready, handler)

    def ignore(self, file: Any) -> None:
        """Stop watching a file."""
        self._selector.unregister(file)

    def call(self, function: Callable[[], None]) -> None:
        """Let the poller call a function in its next turn.

        For any thread, and for signal handlers.
        """
        self._calls.append(function)
        if not self._woken:  # one byte wakes it for all calls until then
            self._woken = True
            os.write(self._wake_writer, b"\0")

    def in_turn(self, network: str | None, share: Share, function: Callable[[], None]) -> None:
        """Call a function when it is the turn of its client (``turns.py``).

        ``share`` is of the client's connection. Only for the poller's thread.
        """
        self._turns.add(network, share, function)

    def turn(self, seconds: float) -> None:
        """Wait at most ``seconds``.

        Call the handlers of all files that are ready, then what threads asked for. Then let clients
        take turns: for :data:`BUDGET`, or for as long as the rest has taken if that is longer.
        """
        found = self._selector.select(0 if self._calls or self._turns else seconds)
        began = time.thread_time()
        for key, ready in found:
            self._try(partial(key.data, ready))
        for _ in range(len(self._calls)):  # not the calls that these add: files come first
            self._try(self._calls.popleft())
        if self._turns:
            now = time.thread_time()
            self._take_turns(now, now + max(BUDGET, now - began))

    def _take_turns(self, used: float, most: float) -> None:
        # Clients are charged for CPU: they cannot help it if other threads or processes interrupt.
        end = time.monotonic() + LONGEST
        while self._turns:
            turn = self._turns.take()
            self._try(turn.entry)
            before, used = used, time.thread_time()
            self._turns.charge(turn, used - before)
            if used > most or time.monotonic() > end:
                break

    def close(self) -> None:
        """Stop. The watched files stay open. Calls are ignored from now on.

        The pipe stays open until the process ends: a thread may be about to write to it, and would
        then write to another file that got the same number.
        """
        self._woken = True
        self._selector.close()

    def _try(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:  # noqa: BLE001 - a bug of ours: it must not end other connections
            self._failed()

    def _wake_up(self, _ready: int) -> None:
        os.read(self._wake_reader, 16)
        self._woken = False
