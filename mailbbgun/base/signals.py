"""Signals that ask a program to end. All of them mean the same: finish what is in hand, begin nothing more, exit 0."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def on_stop(stop: Callable[[], None]) -> None:
    """Call ``stop``, which may be called again, when this process is asked to end. Asked twice, it ends at once, with exit code 1.

    ``stop`` runs between any two instructions of the main thread, so it must take no lock that this thread may hold: no Event, no Thread's
    start. ``queue.SimpleQueue.put`` may be called.

    A SIGHUP never counts as the second: a terminal that closes sends several, and systemd may send one after SIGTERM. Where SIGHUP is ignored,
    as ``nohup`` asks for, it stays so.
    """
    urgent = 0

    def told(number: int, _frame: object) -> None:
        nonlocal urgent
        urgent += number != signal.SIGHUP
        if urgent > 1:
            os._exit(1)
        stop()

    for number in heeded():
        signal.signal(number, told)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let every signal that asks to end do what Ctrl-C does, raise ``KeyboardInterrupt``: for commands that end by themselves."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heeded() -> tuple[signal.Signals, ...]:
    """Return the signals to end on: all of :data:`STOPPING`, but no SIGHUP that whoever started us wants ignored."""
    return tuple(one for one in STOPPING if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN)
