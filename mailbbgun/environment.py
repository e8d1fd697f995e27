"""Whether this Python can run us, looked at before anything is imported that it may not have. Standard library only; any Python 3 can read it.

So ``python3 worker.py`` works with a Python that has none of our libraries, if ``bin/setup`` has put them into ``.venv``, and else says what to type.
"""

import importlib.util
import os
import signal
import sys

TYPE_CHECKING = False  # as typing's; every older Python can read this
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = (3, 11)  # the oldest
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
)
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)  # they ask a program to end
AGAIN = "_MAILBBGUN_STARTED_AGAIN"  # set while another Python is tried, so that none is tried for ever


def need(program: str, *, serves: bool = False, reloads: bool = False) -> None:
    """Return if this Python has all that is needed; else go on as the one in ``.venv``, or exit with one line and code 1.

    Until the program is loaded Ctrl-C ends it without a traceback. Standard streams that are closed lead nowhere from here on.

    ``serves``: the program runs until it is told to end, so :func:`end_when_told` is called first. ``reloads``: SIGHUP does not
    end it; one that comes now waits for the handler of what the program becomes.
    """
    if reloads:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    if serves:
        end_when_told(STOPPING[:3] if reloads else STOPPING)
    _open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    problem = _problem()
    if not problem:
        os.environ.pop(AGAIN, None)
        return
    ours = os.path.join(ROOT, ".venv", "bin", "python")
    arguments = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
    if os.access(ours, os.X_OK) and AGAIN not in os.environ:
        os.environ[AGAIN] = "1"
        (become if serves else os.execv)(ours, [ours, *arguments[1:]])
    sys.exit("{}: {}; type {}".format(program, problem, os.path.join(ROOT, "bin", "setup")))


def end_when_told(numbers: "Iterable[signal.Signals]" = STOPPING) -> None:
    """Exit with code 0 on these signals, until the program has handlers of its own. It has begun nothing that it would have to finish.

    A signal that has a handler, or is ignored as ``nohup`` asks for, keeps that. One that has waited since :func:`become` arrives now.
    """
    for number in numbers:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def become(program: str, argv: "list[str]") -> "NoReturn":
    """Run another program in this one's place. Signals that ask to end wait until it calls :func:`end_when_told`: none is lost, none kills it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    os.execv(program, argv)


def _end(_number: int, _frame: object) -> None:
    os._exit(0)


def _problem() -> str:
    """Say in half a sentence what this Python lacks; nothing if it lacks nothing."""
    if sys.version_info < PYTHON:
        return "Python {}.{} or newer is needed, and {} is {}.{}".format(*PYTHON, sys.executable, *sys.version_info[:2])
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        return "{} lacks libraries ({})".format(sys.executable, shown)  # noqa: UP032
    return ""


def _open_streams() -> None:
    """Let what is closed lead to /dev/null: else a socket of ours would become the standard output, and be written to."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number there is, this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # By its name: a program can tell from that that nobody reads what it prints.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays open
