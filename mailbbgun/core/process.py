"""How a program of ours runs and ends: signals that ask it to end, exit codes with one line on standard error, and its memory."""

import contextlib
import ctypes
import errno
import gc
import os
import queue
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import click

from mailbbgun import __version__
from mailbbgun.core.errors import ConfigurationError, MailBBGunError, Unavailable, explained
from mailbbgun.environment import STOPPING as STOPPING

CONTEXT = {"help_option_names": ["-h", "--help"]}
USAGE = 2  # exit code: it was called in a way that it cannot be
version_option = click.version_option(__version__, "--version", prog_name="Mail BB Gun")
T = TypeVar("T")
_SIGNALS = 128  # added to a signal's number by shells

# What writing to a terminal that was closed, a pipe that nobody reads, or a full disk fails with.
_NO_OUTPUT = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENOSPC)


@contextmanager
def explained_exit(program: str) -> Iterator[None]:
    """On an error of ours print ``<program>: <sentence>`` and exit: 78 (EX_CONFIG) if something is set wrong, 1 if a server does not answer."""
    try:
        yield
    except MailBBGunError as error:
        print(f"{program}: {' '.join(explained(error).split())}", file=sys.stderr)
        wrong = isinstance(error, ConfigurationError) or (isinstance(error, Unavailable) and error.refused)
        raise SystemExit(os.EX_CONFIG if wrong else 1) from error


def check_output(what: str) -> None:
    """Raise :class:`MailBBGunError` if standard output was closed, and with it ``what`` would never be seen. Call it before ``what`` is made."""
    if getattr(sys.stdout, "name", None) == os.devnull:  # see environment.py
        raise MailBBGunError(f"standard output is closed, so {what} could not be shown: nothing was done")


@contextmanager
def printed_or_undone(what: str, undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` if what is printed meanwhile cannot be printed: ``what`` was made for whoever reads it, and must not be valid unseen.

    Raises :class:`MailBBGunError` then, which also says if ``undo`` raised one.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        undo()
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still buffered
        why = f"{what} could not be printed ({error.strerror})"
        try:
            undo()
        except MailBBGunError as failure:
            raise MailBBGunError(f"{why}, and could not be made invalid: {explained(failure)}") from failure
        raise MailBBGunError(f"{why}, so it is not valid") from error


def gc_from_here() -> None:
    """Look for garbage from here on, and never again among what is loaded: it is there to stay, and processes forked share its pages."""
    gc.freeze()
    gc.enable()


def run(program: str, command: click.Command) -> NoReturn:
    """Run a command of click's as a program: like click itself, but each end is one line."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc_from_here()
    try:
        with explained_exit(program):
            code = command.main(prog_name=program, standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        code = USAGE
    except click.ClickException as error:
        _say(f"{program}: {' '.join(error.format_message().split())}")
        code = error.exit_code
    except click.Abort:
        _say(f"{program}: interrupted")
        code = _SIGNALS + signal.SIGINT
    except OSError as error:
        if error.errno not in _NO_OUTPUT:
            raise
        code = _no_output(program, error)
    _leave(code if isinstance(code, int) else 0)


def _no_output(program: str, error: OSError) -> int:
    """Say that nobody reads us, unless it is as usual as ``… | head``; what is still buffered goes nowhere."""
    if error.errno != errno.EPIPE:
        _say(f"{program}: cannot write: {error.strerror}")
    return _SIGNALS + signal.SIGPIPE if error.errno == errno.EPIPE else 1


def end_undisturbed() -> None:
    """Ignore signals that ask to end from now on: the interpreter puts their handlers away before it has ended, and one more would kill it."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _leave(code: int) -> NoReturn:
    end_undisturbed()
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


#: Seconds after the first signal from which on another one is of somebody who will not wait. ``timeout`` tells a program and its
#: group, so the program twice within a moment; nobody has waited in vain by then.
LOOK_SECONDS = 1.0  # between two looks whether a signal has come that did not wake the main thread
INSIST_SECONDS = 1.0


class Insistence:
    """Tells a signal that ends at once from the first one, and from one that only came double. For one process; signal handlers may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None

    def heard(self, number: int) -> bool:
        """Note a signal that asks to end; return whether somebody insists.

        SIGHUP never counts: a terminal that closes sends several, and systemd may send one after SIGTERM.
        """
        if number == signal.SIGHUP:
            return False
        now = self._clock()
        if self._first is None:
            self._first = now
        return now >= self._first + INSIST_SECONDS


def next_event(events: "queue.SimpleQueue[T]", until: float | None = None) -> T:
    """Wait for what a signal's handler or a thread puts into the queue. For the main thread.

    ``until`` is a time of the monotonic clock; after it :class:`queue.Empty` is raised.
    """
    while True:
        # Signals that a stopped process gets may be handed to any of its threads when it goes on,
        # which does not wake the main thread. But only the main thread runs the handlers.
        left = LOOK_SECONDS if until is None else until - time.monotonic()
        try:
            return events.get(timeout=max(0.0, min(left, LOOK_SECONDS)))
        except queue.Empty:
            if left <= LOOK_SECONDS and until is not None:
                raise


def on_stop(stop: Callable[[], None]) -> None:
    """Call ``stop``, which may be called again, when this process is asked to end. Asked again later, it ends at once, with exit code 1.

    Later is :data:`INSIST_SECONDS` after the first time: see :class:`Insistence`.

    ``stop`` runs between any two instructions of the main thread, so it must take no lock that this thread may hold: no Event, no Thread's
    start. ``queue.SimpleQueue.put`` may be called.

    Where SIGHUP is ignored, as ``nohup`` asks for, it stays so.
    """
    insistence = Insistence()

    def told(number: int, _frame: object) -> None:
        if insistence.heard(number):
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


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two heaps. To be called before there are any.

    glibc gives each thread one of its own, up to eight for each core, and what bodies of all sizes leave free in one is of no use to the
    others: a process with many threads grows for hours. Python's threads take turns anyway. Other C libraries do not know of this.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


def no_core_dumps() -> None:
    """Leave no core file when this process crashes, nor any of its children's: passwords, keys and mail are in its memory.

    A program that the system's ``core_pattern`` pipes memory to (core(5)) has its own rule; systemd-coredump's is this one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
