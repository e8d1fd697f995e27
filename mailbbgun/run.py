"""``bin/run``: database, API, worker, SMTP door and mail catcher in the foreground. Also ``python api.py``.

The parts start together and end together. Honcho starts them, each in a session of its own, so that
a Ctrl-C reaches only us; and it prefixes their lines. Honcho's manager loop is not used: it prints
from signal handlers, waits for ever for a part that ignores SIGTERM, ends with code 130, and leaves
its parts running if it is killed by SIGKILL.
"""

from mailbbgun.environment import become, need

if __name__ == "__main__":
    need("run", serves=True)

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click
from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Popen

from mailbbgun.announcing import announce
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.process import CONTEXT, Insistence, explained_exit, heeded, next_event, run, version_option
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.settings.ports import check_ports, ports
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.listening import check_certificate, port_taken
from mailbbgun.startup import load_checked

ROOT = Path(__file__).parents[1]

#: The name before our own lines.
OURS = "run"

#: The name of an event that is a signal to us.
SIGNAL = ""

#: The name of an event that is another such signal, from somebody who will not wait.
INSISTING = "again"

#: Seconds after SHUTDOWN_GRACE until a part that was told to stop is killed. It writes its last
#: results meanwhile.
MARGIN_SECONDS = 15.0

#: Lines that wait to be printed, at most. Others are dropped: a paused terminal must not stop the
#: mail.
LINES_WAITING = 100_000

# Reads lines with process groups. When its input ends, because we have ended, even by SIGKILL, it
# kills the groups of the last line.
_GUARD = 'while read -r running; do groups=$running; done; for one in $groups; do kill -s KILL -- "-$one"; done'


class Group:
    """Parts that start and end together.

    Signals to us, and ends of parts, are events in one queue.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._events: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._running: dict[str, Popen] = {}
        self._readers: list[threading.Thread] = []
        self._guard = _start_guard()
        self._colours = get_colours()  # type: ignore[no-untyped-call]  # honcho has no annotations
        self._lines: queue.Queue[Message | str | None] = queue.Queue(LINES_WAITING)
        self._printing = threading.Thread(target=self._print, daemon=True)
        self._printing.start()
        insistence = Insistence()
        for one in heeded():
            signal.signal(
                one, lambda number, _: self._events.put((INSISTING if insistence.heard(number) else SIGNAL, number))
            )

    def start(self, name: str, *arguments: str) -> None:
        """Start a part: a Python program.

        ``arguments`` stand after ``python`` on its command line.
        """
        argv = [sys.executable, *arguments]
        part = Popen(argv, shell=False, stdin=subprocess.DEVNULL, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"})  # type: ignore[no-untyped-call]  # honcho has no annotations
        self._running[name] = part
        self._tell_guard()
        self._readers.append(threading.Thread(target=self._read, args=(name, part, next(self._colours)), daemon=True))
        self._readers[-1].start()
        # Waits for the process, not for the end of its output: a grandchild may keep that open.
        threading.Thread(target=self._await, args=(name, part), daemon=True).start()

    def next(self) -> tuple[str, int]:
        """Wait for an event.

        Return the name of a part and its exit code, or SIGNAL and its number.
        """
        return self._took(next_event(self._events))

    def finish(self, name: str, code: int) -> int:
        """Stop all parts after this event. Return our exit code.

        It is 0 only if we were told to stop and no part had to be killed.
        """
        if name == SIGNAL:
            self.say(f"{signal.Signals(code).name}: stopping")
        else:
            self.say(f"{name} ended by itself, {_told(code)}{'; stopping the rest' if self._running else ''}")
        # The catcher ends last: the worker may be sending to it.
        clean = self._stop([part for part in self._running if part != "catcher"]) and self._stop(["catcher"])
        for one in self._readers:
            one.join(1)
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=1)
        self._printing.join(1)
        sent = 0 if clean else 1
        return sent if name == SIGNAL else code if 0 < code < 126 else 1

    def say(self, text: str) -> None:
        """Print a line of our own, with the prefix."""
        self._put(Message("line", text + "\n", datetime.now(), OURS, None))

    def show(self, text: str) -> None:
        """Print text without a prefix, fit for copying."""
        self._put(text)

    @property
    def all_printed(self) -> bool:
        """Whether everything was printed.

        If not, a thread is stuck in a write. The interpreter must not wait for it at its exit.
        """
        return not self._printing.is_alive()

    def _stop(self, names: Sequence[str]) -> bool:
        """Stop these parts. Return whether none had to be killed.

        A second signal to us kills them at once.
        """
        until, waiting = time.monotonic() + self._patience, set(names) & set(self._running)
        for name in waiting:
            self._running[name].terminate()
        while waiting & set(self._running):
            try:
                name, _ = self._took(next_event(self._events, until))
                impatient = name == INSISTING
            except queue.Empty:
                impatient = True
            if impatient:
                self.say(f"killing {', '.join(sorted(self._running))}")
                for part in self._running.values():
                    _kill_group(part.pid)
                while self._running:
                    self.next()
                return False
        return True

    def _took(self, event: tuple[str, int]) -> tuple[str, int]:
        part = self._running.pop(event[0], None)
        if part:
            _kill_group(part.pid)  # it may have left children
            self._tell_guard()
        return event

    def _tell_guard(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._guard, " ".join(str(part.pid) for part in self._running.values()).encode() + b"\n")

    def _await(self, name: str, part: Popen) -> None:
        self._events.put((name, part.wait()))

    def _read(self, name: str, part: Popen, colour: str) -> None:
        assert part.stdout is not None  # honcho asks for a pipe
        for line in part.stdout:
            self._put(Message("line", line, datetime.now(), name, colour))

    def _put(self, line: Message | str) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def _print(self) -> None:
        printer = Printer(sys.stdout, width=len("catcher"))  # type: ignore[no-untyped-call]  # honcho has no annotations
        try:
            while (line := self._lines.get()) is not None:
                if isinstance(line, str):
                    print(line, flush=True)
                else:
                    printer.write(line)  # type: ignore[no-untyped-call]  # honcho has no annotations
        except OSError:  # nobody reads our output any more, as with `bin/run | head`
            self._events.put((SIGNAL, signal.SIGPIPE))


@click.command(context_settings=CONTEXT)
@version_option
def main() -> int:
    """Run API, worker, SMTP door and mail catcher in the foreground until Ctrl-C."""
    os.chdir(ROOT)
    with explained_exit(OURS):
        settings = load_checked()
        check_exposure([settings.HOST], settings)
        _check_ports(settings)
        uncaught = taken(settings.CATCHER_HOST, settings.CATCHER_PORT, "CATCHER_PORT")
        shut = port_taken(settings)
        refused = taken(settings.HOST, settings.PORT, "PORT") or (settings.all_caught and uncaught)
    if refused:
        print(f"{OURS}: {refused}", file=sys.stderr)
        return 1
    group = Group(settings.SHUTDOWN_GRACE + MARGIN_SECONDS)
    code = _run(group, settings, uncaught, shut)
    if not group.all_printed:
        os._exit(code)
    return code


@click.command(context_settings=CONTEXT)
@version_option
def become_the_api() -> NoReturn:
    """Serve the HTTP API in the foreground: gunicorn with our settings.

    GUNICORN_CMD_ARGS may have more of its own.
    """
    with explained_exit("api"):
        settings = load_checked()
        elsewhere = {"GUNICORN_CMD_ARGS", "LISTEN_FDS"} & os.environ.keys()  # they may give other addresses
        refused = "" if elsewhere else taken(settings.HOST, settings.PORT, "PORT")
    if refused:
        sys.exit(f"api: {refused}")
    become(
        sys.executable,
        [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT), "api:app"],
    )


def _check_ports(settings: Settings) -> None:
    """Refuse two parts on one port. Raises :class:`ConfigurationError`."""
    if (settings.CATCHER_HOST, settings.CATCHER_PORT) == (settings.HOST, settings.PORT):
        raise ConfigurationError("CATCHER_PORT: is the API's PORT")
    if not ports(settings):
        return
    check_ports(settings)
    check_certificate(settings)
    others = {settings.PORT: (settings.HOST, "PORT"), settings.CATCHER_PORT: (settings.CATCHER_HOST, "CATCHER_PORT")}
    for name, port in ports(settings).items():
        host, other = others.get(port, ("", ""))
        if host == settings.SMTPD_HOST:
            raise ConfigurationError(f"{name}: is the same port as {other}")


def _run(group: Group, settings: Settings, uncaught: str, shut: str) -> int:
    """Run the parts. Return our exit code.

    ``uncaught``: why the catcher cannot listen. It is not started then, because many people have
    another catcher on its port. ``shut``: the same for the SMTP door.
    """
    group.start("initdb", "initdb.py")
    event = group.next()
    if event == ("initdb", 0):
        if uncaught:
            group.say(f"no catcher is started, and mail of test keys goes to whatever listens there: {uncaught}")
        else:
            group.start("catcher", "-m", "mailbbgun.catcher")
        group.start("api", "-m", "gunicorn", "api:app")
        group.start("worker", "worker.py")
        if shut:
            group.say(f"no SMTP door is started: {shut}")
        elif ports(settings):
            group.start("smtpd", "smtpd.py")
        open_ports = {} if shut else ports(settings)
        threading.Thread(target=announce, args=(group.show, settings, not uncaught, open_ports), daemon=True).start()
        event = group.next()
    return group.finish(*event)


def _start_guard() -> int:
    """Start the guard.

    Return the pipe by which it is told the process groups that must end with us.
    """
    theirs, ours = os.pipe()
    subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    return ours


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    run(OURS, main)
