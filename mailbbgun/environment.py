"""Checks whether this Python can run our programs, before they import libraries that it may lack.

If it cannot, the program goes on with the Python in ``.venv``, where ``bin/setup`` has installed
the libraries. Without that, it says what to type. So ``python3 worker.py`` works with any Python 3.
This file uses only the standard library, and every Python 3 must be able to read it.
"""

import gc
import importlib.util
import os
import pwd
import signal
import sys

TYPE_CHECKING = False  # instead of typing's: any older Python can read this
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "mailbbgun")
VENV = os.path.join(ROOT, ".venv")
SETUP = os.path.join(ROOT, "bin", "setup")

#: The oldest Python that can run our programs.
PYTHON = (3, 11)

#: Libraries that our programs import.
MODULES = (
    "flask",
    "flask_smorest",
    "marshmallow",
    "sqlalchemy",
    "alembic",
    "psycopg2",
    "pika",
    "redis",
    "limits",
    "cryptography",
    "gunicorn",
    "aiosmtpd",
    "dns",
    "email_validator",
    "idna",
    "honcho",
    "orjson",
    "click",
    "tqdm",
    "tabulate",
    "minio",
    "minijinja",
    "css_inline",
    "urllib3",
    "httptools",
    "prometheus_client",
    "slack_sdk",
    "joserfc",
    "crawlerdetect",
    "spf",
    "dkim",
    "nacl",
    "tldextract",
    "nh3",
)

#: Signals that ask a program to end.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

#: The environment variable that is set while the other Python is tried, so it is tried only once.
AGAIN = "_MAILBBGUN_STARTED_AGAIN"


def need(program: str, *, serves: bool = False, reloads: bool = False) -> None:
    """Return if this Python can run the program. Else replace it by the Python in ``.venv``.

    If that cannot run it either, exit with one line and code 1.

    Until the program is loaded, Ctrl-C ends it without a traceback, and garbage collection is off,
    because it would take a quarter of the time. :func:`mailbbgun.core.process.run` undoes both.
    Closed standard streams are opened on /dev/null.

    ``serves``: the program runs until it is told to end, so :func:`end_when_told` is called first.
    ``reloads``: SIGHUP does not end the program. It is blocked until the program that this one
    becomes has a handler.
    """
    if reloads:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    if serves:
        end_when_told(STOPPING[:3] if reloads else STOPPING)
    _open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    say_if_closed(program)
    problem = _problem()
    if not problem:
        os.environ.pop(AGAIN, None)
        gc.disable()
        return
    ours = os.path.join(VENV, "bin", "python")
    arguments = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
    if os.access(ours, os.X_OK) and AGAIN not in os.environ:
        os.environ[AGAIN] = "1"
        (become if serves else os.execv)(ours, [ours, *arguments[1:]])
    closed = _first_closed(ours) or _first_closed_library()
    told = _of_another_user(closed) if closed else "{}; type {}".format(problem, SETUP)  # noqa: UP032
    sys.exit("{}: {}".format(program, told))  # noqa: UP032


def _of_another_user(closed: str) -> str:
    """Say that this user may not use the installation, because of one path, and what to type."""
    told = "{} is closed to this user ({}), and so is what bin/setup installed".format(closed, _user())  # noqa: UP032
    if os.path.realpath(closed).startswith(os.path.realpath(VENV)):
        return "{}; as its owner type chmod -R a+rX {}".format(told, VENV)  # noqa: UP032
    return "{}; as its owner type rm -r {}, then {} with a python3 that every user may run".format(told, VENV, SETUP)  # noqa: UP032


def _first_closed(python: str) -> str:
    """Return the first folder or file that keeps this user from an existing Python; "" if none.

    ``.venv`` only links to a Python. That may be in a folder which is closed, such as root's home.
    """
    real = os.path.realpath(python)
    return next(
        (
            path
            for path in _steps(os.path.dirname(python)) + _steps(real)
            if os.path.exists(path) and not os.access(path, os.X_OK)
        ),
        "",
    )


def _steps(path: str) -> "list[str]":
    """Return the folders above a path, the highest first, and the path."""
    parts = path.split(os.sep)
    return [os.sep.join(parts[:number]) for number in range(2, len(parts) + 1)]


def _first_closed_library() -> str:
    """Return the first path of this Python's libraries that this user may not read; "" if none."""
    for folder in sys.path:
        if sys.prefix != sys.base_prefix and folder.startswith(sys.prefix):
            for path in (
                folder,
                *(os.path.join(folder, name, file) for name in MODULES for file in ("", "__init__.py")),
            ):
                needed = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK
                if os.path.exists(path) and not os.access(path, needed):
                    return path.rstrip(os.sep)
    return ""


def say_if_closed(program: str) -> None:
    """Exit with one line and code 1 if this user may not read a folder or module of our own code."""
    closed = _first_closed_of_ours(PACKAGE)
    if closed:
        told = "{} is closed to this user ({}); as its owner type chmod -R a+rX {}"
        sys.exit("{}: ".format(program) + told.format(closed, _user(), PACKAGE))  # noqa: UP032


def _first_closed_of_ours(folder: str) -> str:
    """Return the first folder or module in a folder of our code that this user may not read; "" if there is none."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return folder
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.is_dir():
            closed = "" if entry.name == "__pycache__" else _first_closed_of_ours(entry.path)
            if closed:
                return closed
        elif entry.name.endswith(".py") and not os.access(entry.path, os.R_OK):
            return entry.path
    return ""


def _user() -> str:
    """Return this user's name, or number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def end_when_told(numbers: "Iterable[signal.Signals]" = STOPPING) -> None:
    """Exit with code 0 on these signals, until the program has handlers of its own.

    Until then, it has begun nothing that it must finish. A signal that has a handler keeps it; one
    that is ignored, as by ``nohup``, stays ignored. Signals blocked by :func:`become` arrive now.
    """
    for number in numbers:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # rotation of logs sends them; gunicorn has handlers of its own
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def become(program: str, argv: "list[str]") -> "NoReturn":
    """Replace this program by another one.

    Signals that ask to end are blocked until that calls :func:`end_when_told`: none is lost, and
    none kills it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    os.execv(program, argv)


def _end(_number: int, _frame: object) -> None:
    os._exit(0)


def _problem() -> str:
    """Say in half a sentence what this Python lacks; "" if it lacks nothing."""
    if sys.version_info < PYTHON:
        return "Python {}.{} or newer is needed, and {} is {}.{}".format(*PYTHON, sys.executable, *sys.version_info[:2])
    missing = [name for name in MODULES if not _is_readable(name)]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        return "{} lacks libraries ({})".format(sys.executable, shown)  # noqa: UP032
    return ""


def _is_readable(name: str) -> bool:
    """Return whether a module exists and may be read.

    Python takes one that may not be read for a folder without modules, and its file is None.
    """
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and os.access(found.origin, os.R_OK)


def _open_streams() -> None:
    """Open closed standard streams on /dev/null.

    Otherwise a socket of ours would get the number of the standard output, and be written to.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Programs see by the stream's name that nobody reads their output.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays open
