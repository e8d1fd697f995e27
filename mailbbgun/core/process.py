"""How our programs run and end: signals, exit codes with one line on standard error, and memory."""

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

#: Settings of click that all our commands share.
CONTEXT = {"help_option_names": ["-h", "--help"]}
USAGE = 2  # exit code: the command line is wrong
version_option = click.version_option(__version__, "--version", prog_name="Mail BB Gun")
T = TypeVar("T")
_SIGNALS = 128  # shells report a program that a signal ended by 128 + the signal's number

# Errors of writing to a closed terminal, to a pipe that nobody reads, or to a full disk.
_NO_OUTPUT = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENOSPC)


@contextmanager
def explained_exit(program: str) -> Iterator[None]:
    """On one of our errors print ``<program>: <sentence>`` and exit.

    The exit code is 78 (EX_CONFIG) if a setting is wrong or a server refuses us, and 1 for every
    other error.
    """
    try:
        yield
    except MailBBGunError as error:
        print(f"{program}: {' '.join(explained(error).split())}", file=sys.stderr)
        wrong = isinstance(error, ConfigurationError) or (isinstance(error, Unavailable) and error.refused)
        raise SystemExit(os.EX_CONFIG if wrong else 1) from error


def check_output(what: str) -> None:
    """Raise :class:`MailBBGunError` if standard output is closed: nobody would see ``what``.

    Call it before ``what`` is made.
    """
    if getattr(sys.stdout, "name", None) == os.devnull:  # see environment.py
        raise MailBBGunError(f"standard output is closed, so {what} could not be shown: nothing was done")


@contextmanager
def printed_or_undone(what: str, undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` if the block cannot print.

    ``what`` is a secret that must not be valid if nobody saw it.

    Then raises :class:`MailBBGunError`, which also says so if ``undo`` failed.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        undo()
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter will write what is still buffered
        why = f"{what} could not be printed ({error.strerror})"
        try:
            undo()
        except MailBBGunError as failure:
            raise MailBBGunError(f"{why}, and could not be made invalid: {explained(failure)}") from failure
        raise MailBBGunError(f"{why}, so it is not valid") from error


def gc_from_here() -> None:
    """Turn garbage collection on, and exempt all objects that exist now.

    Modules and classes stay for good. Not touching them lets forked processes share their memory.
    """
    gc.freeze()
    gc.enable()


def run(program: str, command: click.Command) -> NoReturn:
    """Run a click command as a program, as click would, except that every error is one line."""
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
    """Report that output cannot be written, and return the exit code.

    A closed pipe (``… | head``) is not reported.
    """
    if error.errno != errno.EPIPE:
        _say(f"{program}: cannot write: {error.strerror}")
    return _SIGNALS + signal.SIGPIPE if error.errno == errno.EPIPE else 1


def end_undisturbed() -> None:
    """Ignore signals that ask to end, from now on.

    The interpreter removes their handlers before it has ended. Without this, one more signal would
    kill it.
    """
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


#: Seconds between two looks whether a signal has come that did not wake the main thread.
LOOK_SECONDS = 1.0

#: A signal that comes this many seconds after the first one means that somebody will not wait. An
#: earlier one does not: ``timeout`` signals a program and then its process group, so the program
#: gets two at once.
INSIST_SECONDS = 1.0


class Insistence:
    """Decides whether a signal to end means "now". Signal handlers may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None

    def heard(self, number: int) -> bool:
        """Note a signal that asks to end. Return whether the process is to end at once.

        SIGHUP never counts: a closing terminal sends several, and systemd may send one after
        SIGTERM.
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
    """Call ``stop`` when a signal asks this process to end. ``stop`` may be called several times.

    A further signal :data:`INSIST_SECONDS` after the first one ends the process at once, with exit
    code 1 (see :class:`Insistence`). If SIGHUP is ignored, as under ``nohup``, it stays ignored.

    ``stop`` runs between any two instructions of the main thread. So it must take no lock that this
    thread may hold: it may not use an Event or start a Thread. It may call
    ``queue.SimpleQueue.put``.
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
    """Let every signal that asks to end raise ``KeyboardInterrupt``, as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heeded() -> tuple[signal.Signals, ...]:
    """Return the signals that end this process: :data:`STOPPING`, without an ignored SIGHUP."""
    return tuple(one for one in STOPPING if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN)


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two heaps. Call it before the first thread starts.

    By default glibc gives threads heaps of their own, up to eight for each core. Memory that is
    free in one is of no use to the others, so a process with many threads grows for hours. Python's
    threads take turns anyway. With other C libraries this does nothing.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


#: Objects made, less objects gone, before the youngest are looked at, and how often older ones are.
_RARE = (20_000, 20, 20)


def rare_collections() -> None:
    """Look for garbage in circles more rarely, and exempt all objects that exist now.

    Call it when everything is built. The work of a message makes hundreds of objects and hardly
    ever a circle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RARE)


def allow_open_files(needed: int) -> int:
    """Raise this process's limit of open files to ``needed``, as far as it may; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def no_core_dumps() -> None:
    """Let this process and its children leave no core file when they crash.

    Their memory has passwords, keys and mail. If the system's ``core_pattern`` pipes core dumps to
    a program (core(5)), that program decides. systemd-coredump respects this limit.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
