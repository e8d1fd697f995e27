"""How a program ends: whatever happens, one line on standard error and an exit code, of sysexits.h or as shells count signals. No traceback."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from mailbbgun import __version__
from mailbbgun.base.errors import ConfigurationError, MailBBGunError, Unavailable, explained

CONTEXT = {"help_option_names": ["-h", "--help"]}
USAGE = 2  # exit code: it was called in a way that it cannot be
version_option = click.version_option(__version__, "--version", prog_name="Mail BB Gun")
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


def run(program: str, command: click.Command) -> NoReturn:
    """Run a command of click's as a program: like click itself, but each end is one line."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


def _leave(code: int) -> NoReturn:
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
