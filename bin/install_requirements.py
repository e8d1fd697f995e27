"""Install what a requirements file pins, and show how far that is. ``bin/setup`` runs this.

    python bin/install_requirements.py REQUIREMENTS

It needs no library. On a terminal one line of standard error is written over and over; elsewhere
a few lines are printed. What pip says is kept back, and printed only if pip fails: then all of it,
on standard error. The exit code is pip's.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

#: Seconds between two looks at what pip has done.
LOOK_SECONDS = 0.1

#: How many lines tell the progress of an installation where no terminal is.
PARTS = 4

INTERRUPTED = 128 + signal.SIGINT

_COLLECTING = re.compile(r"Collecting ([A-Za-z0-9][A-Za-z0-9._-]*)")
_INSTALLING = "Installing collected packages: "
_RETRYING = "WARNING: Retrying "


class Progress(NamedTuple):
    """How far an installation is: what to show, and which part of the whole that belongs to."""

    text: str
    part: str


def progress(said: Sequence[str], installed: int) -> Progress:
    """Return how far pip is, by the lines it has said and by the number of packages it has installed.

    pip first fetches packages, and finds out while it does so which others these need. So their
    number is known, and said by pip, only when it begins to install them.
    """
    begun = next((line.strip() for line in said if line.startswith(_INSTALLING)), None)
    if begun:
        names = begun.removeprefix(_INSTALLING).split(", ")
        place, total = min(installed + 1, len(names)), len(names)
        text = f"installing {place} of {total}: {names[place - 1]}"
        return Progress(text, f"installing {PARTS * (place - 1) // total}")
    if said and said[-1].startswith(_RETRYING):
        return Progress("no answer from where packages come from; trying again", "retrying")
    matches = (_COLLECTING.match(line.lstrip()) for line in said)
    fetched = list(dict.fromkeys(found[1] for found in matches if found))
    text = f"fetching {fetched[-1]}, package {len(fetched)}" if fetched else "fetching packages"
    return Progress(text, "fetching")


class Display:
    """Shows progress: on a terminal in one line, elsewhere a line for each part. Never fails."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = Progress("", "")

    def show(self, now: Progress) -> None:
        """Show how far it is, unless that was shown already."""
        if self._terminal and now.text != self._shown.text:
            self._write(f"\r{self._fitting(now.text)}\x1b[K")
        elif not self._terminal and now.part != self._shown.part:
            self._write(f"{now.text}\n")
        self._shown = now

    def end(self, text: str) -> None:
        """Show a last line in the place of the progress."""
        self._write(f"\r{text}\x1b[K\n" if self._terminal else f"{text}\n")

    def _fitting(self, text: str) -> str:
        """Cut a text to the terminal's width. A terminal that tells none is taken to be wide enough."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns if self._stream else 0
        except OSError:
            columns = 0
        return text[: columns - 1] if columns > 1 else text

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):  # nobody reads it
                self._stream.write(text)
                self._stream.flush()


def main(requirements: str) -> int:
    """Run pip and show its progress; return its exit code."""
    display, name = Display(sys.stderr), Path(requirements).name
    before = _installed()
    options = ["--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
    pip = subprocess.Popen(
        [sys.executable, "-m", "pip", "install", *options, "-r", requirements],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(pip.stdout or ()), daemon=True)
    reader.start()
    try:
        while pip.poll() is None:
            display.show(progress(tuple(said), len(_installed() - before)))
            time.sleep(LOOK_SECONDS)
        reader.join()
    except KeyboardInterrupt:  # of which pip was told, too
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pip.wait()
        display.end("interrupted")
        return INTERRUPTED
    if pip.returncode != 0:
        display.end(f"pip failed to install {name}, and said:")
        with contextlib.suppress(OSError):
            print("".join(said), end="", file=sys.stderr, flush=True)
    else:
        number = len(_installed() - before)
        display.end(f"installed {number} package{'' if number == 1 else 's'} for {name}")
    return pip.returncode


def _installed() -> set[str]:
    """Return the packages of this Python, as their folders of metadata are called: with versions."""
    return {path.name for path in Path(sysconfig.get_path("purelib")).glob("*.dist-info")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
